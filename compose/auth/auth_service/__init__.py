"""The platform's auth service: accounts, logins, sessions."""
