-- SPDX-License-Identifier: MIT
--
-- inbox_postgres.sql - the rule of include/outbox/inbox.h for a recipient with PostgreSQL 14 or newer.
--
--   psql -f inbox_postgres.sql
--
--   BEGIN;
--   SELECT * FROM inbox_accept('outbox://pump-7/normal/ab0506a260063ec7', 42, 41);
--   -- where `apply` is true: your own writes
--   COMMIT;  -- then acknowledge the message to the broker
--
-- `source`, `sequence` and `previous` (NULL in fire and forget) are the event's attributes; an
-- announcement (type outbox.dropped) gives `count`, `from` and `to` of its data as well. The row of the
-- stream is locked until the transaction ends, so recipients that run beside each other judge one after
-- the other.

CREATE TABLE inbox_stream(
    stream      text PRIMARY KEY,                       -- outbox://DEVICE/LANE
    epoch       text NOT NULL,
    mark        bigint NOT NULL,                        -- the last event that was applied
    retired     text[] NOT NULL DEFAULT '{}',           -- the last 8 epochs before it, newest first
    late        int8multirange NOT NULL DEFAULT '{}',   -- the last 8 ranges that were passed over
    applied     bigint NOT NULL DEFAULT 0,
    passed_over bigint NOT NULL DEFAULT 0,
    forgone     bigint NOT NULL DEFAULT 0,
    announced   bigint NOT NULL DEFAULT 0,
    lost        bigint NOT NULL DEFAULT 0
);

-- How many numbers of the range are in it.
CREATE FUNCTION inbox_count(late int8multirange, range int8range) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(sum(upper(r) - lower(r)), 0)::bigint
    FROM unnest(late * int8multirange(range)) AS r
$$;

-- With one range more, and the oldest ones forgotten.
CREATE FUNCTION inbox_pass_over(late int8multirange, first bigint, last bigint)
RETURNS int8multirange LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(range_agg(r), '{}')
    FROM (SELECT r FROM unnest(late + int8multirange(int8range(first, greatest(last + 1, first))))
              AS r ORDER BY r DESC LIMIT 8) AS newest
$$;

CREATE FUNCTION inbox_accept(
    source text, sequence bigint, previous bigint, skip boolean DEFAULT false,
    drop_count bigint DEFAULT 0, drop_from bigint DEFAULT 0, drop_to bigint DEFAULT 0,
    OUT verdict text,                                   -- new, new epoch, duplicate, stale, gap
    OUT apply boolean,
    OUT missing_from bigint, OUT missing_to bigint)     -- of a gap, also one that is skipped
LANGUAGE plpgsql AS $$
DECLARE
    part text[] := regexp_match(source,
        '^(outbox://[A-Za-z0-9._~-]+/[A-Za-z0-9._~-]+)/([A-Za-z0-9._~-]{1,32})$');
    s inbox_stream;
    is_first boolean;
    is_announcement boolean := drop_count > 0 AND drop_from > 0 AND drop_to >= drop_from
        AND drop_count <= drop_to - drop_from + 1;
    behind bigint;                                      -- from where the mark moves on
    gone bigint;                                        -- numbers that are given up
    known bigint := 0;                                  -- of an announcement, what never was applied
BEGIN
    IF part[1] LIKE '%/unstored' THEN                   -- fire and forget: names none before it
        previous := coalesce(previous, 0);
    END IF;
    IF part IS NULL OR previous IS NULL OR sequence NOT BETWEEN 1 AND 281474976710656
        OR previous < 0 OR previous >= sequence THEN
        RAISE EXCEPTION 'this is no event of an outbox: % % %', source, sequence, previous
            USING ERRCODE = 'data_exception';
    END IF;

    INSERT INTO inbox_stream(stream, epoch, mark) VALUES (part[1], part[2], 0)
        ON CONFLICT DO NOTHING;
    is_first := FOUND;
    SELECT * INTO s FROM inbox_stream WHERE stream = part[1] FOR UPDATE;

    verdict := CASE
        WHEN is_first THEN 'new epoch'
        WHEN part[2] = s.epoch THEN CASE
            WHEN sequence <= s.mark THEN
                CASE WHEN s.late @> sequence OR (sequence < lower(s.late)
                          AND (SELECT count(*) = 8 FROM unnest(s.late)))
                     THEN 'stale' ELSE 'duplicate' END
            WHEN previous <= s.mark THEN 'new'
            WHEN is_announcement AND drop_count = drop_to - drop_from + 1
                AND drop_from <= s.mark + 1 AND drop_to >= previous THEN 'new'
            ELSE 'gap' END
        WHEN part[2] = ANY (s.retired) THEN 'stale'
        WHEN previous = 0 THEN 'new epoch'
        ELSE 'gap' END;

    IF verdict = 'gap' THEN
        missing_from := CASE WHEN part[2] = s.epoch THEN s.mark + 1 ELSE 1 END;
        missing_to := previous;
        IF skip THEN
            verdict := CASE WHEN part[2] = s.epoch THEN 'new' ELSE 'new epoch' END;
        END IF;
    END IF;
    apply := verdict IN ('new', 'new epoch');
    IF NOT apply THEN
        RETURN;
    END IF;

    -- Where a new epoch gives out the same numbers again, nothing that is known of them holds.
    behind := CASE WHEN s.mark < sequence THEN s.mark ELSE 0 END;
    IF behind = 0 AND s.mark > 0 THEN
        s.late := '{}';
    END IF;
    IF behind > 0 OR s.mark = 0 OR missing_to > 0 THEN
        s.late := inbox_pass_over(s.late, behind + 1, sequence - 1);
    END IF;
    gone := greatest(coalesce(missing_to, 0) - behind, 0);
    IF behind > 0 OR missing_to > 0 THEN
        s.passed_over := s.passed_over + sequence - behind - gone - 1;
    END IF;
    IF is_announcement THEN
        known := least(drop_count, inbox_count(s.late, int8range(drop_from, drop_to, '[]')));
    END IF;
    UPDATE inbox_stream SET
        epoch = part[2],
        retired = CASE WHEN part[2] = s.epoch THEN s.retired ELSE (s.epoch || s.retired)[:8] END,
        mark = sequence,
        late = s.late,
        applied = s.applied + 1,
        passed_over = s.passed_over,
        forgone = s.forgone + gone,
        announced = s.announced + CASE WHEN is_announcement THEN drop_count ELSE 0 END,
        lost = s.lost + known
        WHERE stream = part[1];
END
$$;
