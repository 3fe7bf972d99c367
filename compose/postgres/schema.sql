-- Loaded once, at image build, into the template database; every table belongs to the application's role.

CREATE TABLE users (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name          text NOT NULL UNIQUE CHECK (length(name) BETWEEN 3 AND 32),
    password_hash text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- One row a refresh token; all tokens that descend from one login share its session.
CREATE TABLE refresh_tokens (
    hash       bytea PRIMARY KEY CHECK (length(hash) = 32),
    session    uuid NOT NULL,
    user_id    uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    expires_at timestamptz NOT NULL,
    used_at    timestamptz,
    revoked_at timestamptz
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id);

-- Access tokens and sessions that ended early, kept as long as such a token could still be shown.
CREATE TABLE revocations (
    id         uuid PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX revocations_expiry ON revocations (expires_at);

CREATE TABLE threads (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    owner_id   uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    title      text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    shared     boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX threads_owner ON threads (owner_id, number);

CREATE TABLE messages (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    thread_id  uuid NOT NULL REFERENCES threads ON DELETE CASCADE,
    author_id  uuid NOT NULL REFERENCES users ON DELETE CASCADE,
    body       text NOT NULL CHECK (length(body) BETWEEN 1 AND 4000),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX messages_thread ON messages (thread_id, id);
CREATE INDEX messages_author ON messages (author_id);

ALTER TABLE users OWNER TO app;
ALTER TABLE refresh_tokens OWNER TO app;
ALTER TABLE revocations OWNER TO app;
ALTER TABLE threads OWNER TO app;
ALTER TABLE messages OWNER TO app;
