-- What the files given to `init` have last set, by `kind` (price, as JSON; setting) and name (`provider/model`, the key of the
-- setting): so a later change by hand is told from an older value. The kind `list` marks that the price list is a file's.
CREATE TABLE token_tracking_file_entry (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    noted_at BIGINT NOT NULL,
    PRIMARY KEY (kind, name)
) /*clustered*/;
