-- compatible: a newer program only reads with the new index.
-- A list of the customers with an email is ordered by id. With the id in the index, no plan has to sort it, or to read all
-- customers in the order of their ids instead.

CREATE INDEX customers_by_email_and_id ON customers (account_id, email, id) WHERE email IS NOT NULL;
DROP INDEX customers_by_email;
