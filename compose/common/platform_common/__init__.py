"""What the platform's services share: settings, the two stores, tokens, answers, the server and its health check."""
