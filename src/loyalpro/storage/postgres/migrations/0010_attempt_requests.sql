-- The requests of an attempt that sent more than one; NULL for the usual attempt, whose other columns say everything.
--
-- `requests` is a JSON list, in the order of sending. `responses` is the list of what the endpoint answered to each of them: it
-- is a column of its own, so that an erasure can remove it. An older program would not, so this schema is not for it.

ALTER TABLE attempts ADD COLUMN requests TEXT;
ALTER TABLE attempts ADD COLUMN responses TEXT;
