-- Requests that were refused, summed for each day (in the configured zone), user, model and limit. '' stands for none; the model ''
-- for those of a user and day beyond the bound. `reason`: limit, too_large, busy, too_many_requests, not_sponsored, no_allowance,
-- model_not_priced. `limited_by`: the kind of account, as in token_tracking_account.
CREATE TABLE token_tracking_refusal (
    day TEXT NOT NULL,
    user_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    reason TEXT NOT NULL,
    limited_by TEXT NOT NULL,
    sponsored_id TEXT NOT NULL,
    requests BIGINT NOT NULL,
    first_at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    PRIMARY KEY (day, user_id, provider, model, reason, limited_by, sponsored_id)
) /*clustered*/;
