CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item text NOT NULL CHECK (item <> ''),
    quantity integer NOT NULL CHECK (quantity > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    processed_at timestamptz
);

-- The worker asks for what is left over; most rows are done, so the index stays small.
CREATE INDEX orders_unprocessed ON orders (created_at) WHERE processed_at IS NULL;
