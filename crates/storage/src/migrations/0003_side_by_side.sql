-- Programs of two versions side by side on one database.

-- The oldest schema whose programs may still use the database as this version left it. NULL: that version's alone.
ALTER TABLE token_tracking_schema_version ADD COLUMN usable_from BIGINT;
-- The newest schema that the process's program knows. NULL: 2 or older.
ALTER TABLE token_tracking_owner ADD COLUMN program_schema BIGINT;
