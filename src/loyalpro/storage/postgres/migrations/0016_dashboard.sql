-- compatible: what the pages of the dashboard read by, and the settings that only they have.

-- Churn: how many customers have which score, counted by each run.
ALTER TABLE churn_runs ADD COLUMN histogram TEXT;
