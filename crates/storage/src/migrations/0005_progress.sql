-- How far the requests of this process have come, by their ids (JSON): saved several times a second, all in one row. What a
-- hold has of its own is the same, every two seconds, for programs that don't know this column.
ALTER TABLE token_tracking_owner ADD COLUMN progress TEXT;
