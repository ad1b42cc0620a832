-- Numbers in the usage of a provider that no program of ours knew when it met them: each once, for `doctor`.
CREATE TABLE token_tracking_unknown_usage (
    provider TEXT NOT NULL,
    field TEXT NOT NULL,
    first_at BIGINT NOT NULL,
    PRIMARY KEY (provider, field)
) /*clustered*/;
