-- Administration: what the original has no place for, beside its tables. Dates are `YYYY-MM-DD`, in the configured zone.

-- Our own mark on each row of the original's usage log: the ledger's id of the same request. NULL: the original wrote the row,
-- and it is not in the ledger yet.
ALTER TABLE token_tracking_usage_log ADD COLUMN tracking_id VARCHAR(32);
CREATE INDEX token_tracking_usage_log_new ON token_tracking_usage_log (log_date) WHERE tracking_id IS NULL;

-- Why an administrator's entry was made.
ALTER TABLE token_tracking_ledger ADD COLUMN reason TEXT;
-- What is in the ledger beside requests; no request writes it.
CREATE INDEX token_tracking_ledger_beside ON token_tracking_ledger (user_id, day) WHERE kind <> 'request';

-- Prices of the public list: which entry of which list, at how many credits for one USD (JSON).
ALTER TABLE token_tracking_price ADD COLUMN upstream TEXT;
-- 0: a price from a later date that the original's table does not show yet.
ALTER TABLE token_tracking_price ADD COLUMN mirrored BIGINT NOT NULL DEFAULT 1;

-- Who changed what, when: before and after as JSON.
CREATE TABLE token_tracking_audit (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    before TEXT,
    after TEXT
);

-- Names of users, groups and sponsored allowances that were deleted, so that history can name them. `kind`: user,
-- credit_group, sponsored_allowance.
CREATE TABLE token_tracking_name (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    kept_at BIGINT NOT NULL,
    PRIMARY KEY (kind, id)
);

-- What the original's credit groups have beside: weekly and monthly microcredits, the id of the Open WebUI group that they
-- follow.
CREATE TABLE token_tracking_group (
    id TEXT NOT NULL PRIMARY KEY,
    weekly BIGINT,
    monthly BIGINT,
    open_webui_group TEXT
);

-- What the original's sponsored allowances have beside: from which day and up to which (included), whether everybody sees its
-- models as models of their own, and when it was deleted (the original's row stays where its usage log refers to it).
CREATE TABLE token_tracking_sponsored (
    id TEXT NOT NULL PRIMARY KEY,
    starts_on TEXT,
    ends_on TEXT,
    public BIGINT NOT NULL DEFAULT 0,
    deleted_at BIGINT
);
-- Who may use it; nobody named: whoever may use its workspace models. `kind`: user, credit_group, open_webui_group.
CREATE TABLE token_tracking_sponsored_member (
    sponsored_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    member TEXT NOT NULL,
    PRIMARY KEY (sponsored_id, kind, member)
);
-- The provider of each model that it covers, where it is not every provider's.
CREATE TABLE token_tracking_sponsored_model (
    sponsored_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    PRIMARY KEY (sponsored_id, provider, model)
);
-- Workspace models that open an allowance although no administrator made them.
CREATE TABLE token_tracking_sponsored_workspace_model (
    id TEXT NOT NULL PRIMARY KEY,
    sponsored_id TEXT NOT NULL
);
-- The chats whose last request an allowance paid, so that it pays for what Open WebUI asks about them: a task names its chat,
-- but not its workspace model. Only of the last weeks.
CREATE TABLE token_tracking_sponsored_chat (
    user_id TEXT NOT NULL,
    chat_id TEXT NOT NULL,
    sponsored_id TEXT NOT NULL,
    noted_at BIGINT NOT NULL,
    PRIMARY KEY (user_id, chat_id)
) /*clustered*/;
CREATE INDEX token_tracking_sponsored_chat_age ON token_tracking_sponsored_chat (noted_at);

-- The usage in the ledger, summed for each day that is over, three times: `grain` 0 by all columns, 1 without users, 2 by users
-- alone, so that a report reads as few rows as it needs. '' stands for none.
CREATE TABLE token_tracking_rollup (
    grain BIGINT NOT NULL,
    day TEXT NOT NULL,
    user_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    sponsored_id TEXT NOT NULL,
    task TEXT NOT NULL,
    requests BIGINT NOT NULL,
    imported_requests BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    cached_input_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    reasoning_tokens BIGINT NOT NULL,
    charge BIGINT NOT NULL,
    estimated_requests BIGINT NOT NULL,
    estimated_charge BIGINT NOT NULL,
    PRIMARY KEY (grain, day, user_id, provider, model, sponsored_id, task)
) /*clustered*/;
-- The days that are summed there: those with `rolled_at`. `entries`: how many rows of the ledger were summed. `claim`: a
-- roll-up that is under way; whatever is written into its day takes it away. `pruned`: the ledger's rows are not kept any more.
CREATE TABLE token_tracking_rollup_day (
    day TEXT NOT NULL PRIMARY KEY,
    entries BIGINT NOT NULL DEFAULT 0,
    rolled_at BIGINT,
    claim TEXT,
    pruned BIGINT NOT NULL DEFAULT 0
);
