-- Our own tables. One text for both databases: TEXT and BIGINT only.
-- Money is in microcredits, times are microseconds since 1970 UTC, ids are 32 hex digits.
-- Marks that each database fills in its own way: /*clustered*/ keeps the rows in the order of their key (SQLite),
-- /*changing*/ leaves room beside rows that change all the time (PostgreSQL).
-- The ledger has no index that a request's own writes don't need: what grows with the log is only appended.

CREATE TABLE token_tracking_price (
    version BIGINT NOT NULL PRIMARY KEY,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    name TEXT NOT NULL,
    price TEXT NOT NULL,
    max_output_tokens BIGINT,
    context_tokens BIGINT,
    source TEXT NOT NULL,
    valid_from BIGINT NOT NULL,
    deleted BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX token_tracking_price_model ON token_tracking_price (provider, model, version);

CREATE TABLE token_tracking_owner (
    id TEXT NOT NULL PRIMARY KEY,
    process TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    dead BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE token_tracking_account (
    key TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id TEXT,
    sponsored_id TEXT,
    day TEXT,
    spent BIGINT NOT NULL DEFAULT 0,
    held BIGINT NOT NULL DEFAULT 0
) /*clustered*/ /*changing*/;

CREATE TABLE token_tracking_hold (
    id TEXT NOT NULL PRIMARY KEY,
    owner TEXT NOT NULL,
    accounts TEXT NOT NULL,
    amount BIGINT NOT NULL,
    output_tokens BIGINT,
    request TEXT NOT NULL,
    progress TEXT,
    held_at BIGINT NOT NULL
) /*clustered*/ /*changing*/;

CREATE TABLE token_tracking_ledger (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    corrects TEXT,
    user_id TEXT NOT NULL,
    sponsored_id TEXT,
    accounts TEXT NOT NULL,
    day TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    answered_model TEXT,
    price_version BIGINT,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    cache_write_long_tokens BIGINT NOT NULL,
    input_audio_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    output_audio_tokens BIGINT NOT NULL,
    images BIGINT NOT NULL,
    calls BIGINT NOT NULL,
    charge BIGINT NOT NULL,
    estimated TEXT,
    outcome TEXT NOT NULL,
    policy TEXT NOT NULL,
    over_hold BIGINT NOT NULL,
    way_in TEXT NOT NULL,
    task TEXT,
    chat_id TEXT,
    message_id TEXT,
    workspace_model TEXT,
    instance TEXT,
    provider_request_id TEXT,
    started_at BIGINT NOT NULL,
    first_byte_at BIGINT,
    ended_at BIGINT NOT NULL
);
CREATE INDEX token_tracking_ledger_corrects ON token_tracking_ledger (corrects) WHERE corrects IS NOT NULL;

CREATE TABLE token_tracking_user (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    seen_at BIGINT NOT NULL
);

CREATE TABLE token_tracking_key (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    hash TEXT NOT NULL,
    user_id TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT
);
CREATE UNIQUE INDEX token_tracking_key_hash ON token_tracking_key (hash);
