-- The tables of openwebui-token-tracking 0.1.10, as its own migrations make them, where they are missing.
CREATE TABLE IF NOT EXISTS token_tracking_usage_log (
    log_date DATETIME,
    user_id VARCHAR(255),
    provider VARCHAR(255),
    model_id VARCHAR(255),
    prompt_tokens INTEGER,
    response_tokens INTEGER,
    sponsored_allowance_id UUID REFERENCES token_tracking_sponsored_allowance (id)
);
CREATE TABLE IF NOT EXISTS token_tracking_model_pricing (
    id VARCHAR(255) NOT NULL PRIMARY KEY,
    provider VARCHAR(255),
    name VARCHAR(255),
    input_cost_credits INTEGER,
    per_input_tokens INTEGER,
    output_cost_credits INTEGER,
    per_output_tokens INTEGER
);
CREATE TABLE IF NOT EXISTS token_tracking_credit_group (
    id UUID NOT NULL PRIMARY KEY,
    name VARCHAR(255),
    max_credit INTEGER,
    description VARCHAR(255)
);
CREATE TABLE IF NOT EXISTS token_tracking_credit_group_user (
    credit_group_id UUID REFERENCES token_tracking_credit_group (id),
    user_id VARCHAR(255) /*user*/
);
CREATE UNIQUE INDEX IF NOT EXISTS idx_token_tracking_credit_group_name_lower
    ON token_tracking_credit_group (lower(name));
CREATE TABLE IF NOT EXISTS token_tracking_base_settings (
    setting_key VARCHAR(255) NOT NULL PRIMARY KEY,
    setting_value VARCHAR(255),
    description VARCHAR(255)
);
CREATE TABLE IF NOT EXISTS token_tracking_sponsored_allowance (
    id UUID NOT NULL PRIMARY KEY,
    creation_date DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    name VARCHAR(255),
    sponsor_id VARCHAR(255),
    total_credit_limit INTEGER NOT NULL,
    daily_credit_limit INTEGER
);
CREATE TABLE IF NOT EXISTS token_tracking_sponsored_allowance_base_models (
    sponsored_allowance_id UUID REFERENCES token_tracking_sponsored_allowance (id),
    base_model_id VARCHAR(255) REFERENCES token_tracking_model_pricing (id)
);
