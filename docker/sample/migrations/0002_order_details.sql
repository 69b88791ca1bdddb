-- Only adds, and every column has a default: the release before this one goes on working.
ALTER TABLE orders
    ADD COLUMN customer text NOT NULL DEFAULT '',
    ADD COLUMN note text NOT NULL DEFAULT '',
    -- Set on seeded rows only, so that seeding again adds what is missing and nothing twice.
    ADD COLUMN seed_number bigint;

CREATE UNIQUE INDEX orders_seed_number ON orders (seed_number) WHERE seed_number IS NOT NULL;
