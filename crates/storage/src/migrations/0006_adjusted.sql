-- 1 where the report of the usage contradicted itself and was used where it can be right; `estimated` is for what was counted here.
ALTER TABLE token_tracking_ledger ADD COLUMN adjusted BIGINT NOT NULL DEFAULT 0;
