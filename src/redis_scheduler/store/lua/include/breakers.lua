-- The breaker of a host: closed while its failures in a row are counted, open while one task at a time probes it, and
-- closing while it comes back in ten steps. To be included after `limits`.
local STEPS = 10
local CLOSING_MOST = 100  -- attempts at once in the last step, of a host without a concurrency
local OVERDUE_GAP_MS = 10  -- from one to the next of the tasks that a breaker has held for as long as it may

-- Returns its state (`c`, `o`, `r`), a number (failures in a row, probes, or the step), since when it is so, the gap
-- between probes, and when the next probe or step may be; nil where nothing is kept of it.
local function breaker_of(breakers, limit)
  local kept = redis.call('HGET', breakers, limit)
  local state, number, since_ms, gap_ms, next_ms = string.match(kept or '', '^([cor]) (%d+) (%d+) (%d+) (%d+)$')
  if state then
    return {state = state, number = tonumber(number), since_ms = tonumber(since_ms), gap_ms = tonumber(gap_ms),
      next_ms = tonumber(next_ms)}
  end
end

local function keep_breaker(breakers, limit, breaker)
  redis.call('HSET', breakers, limit, string.format('%s %.0f %.0f %.0f %.0f', breaker.state, breaker.number,
    breaker.since_ms, breaker.gap_ms, breaker.next_ms))
end

-- What a limit comes to beside a breaker: attempts at once, ms from one to the next, whether none begins, and whether
-- the next is a probe. Of so many shards each has a part of what comes back.
local function beside(breaker, now, most, gap_ms, is_paused, parts)
  if not breaker or breaker.state == 'c' then
    return most, gap_ms, is_paused, false
  elseif breaker.state == 'o' then
    return 1, 0, is_paused or now < breaker.next_ms, true
  end
  local share = math.max(1, math.min(STEPS, breaker.number)) / STEPS
  return math.max(1, math.floor(math.min(most, CLOSING_MOST / parts) * share)), gap_ms / share, is_paused, false
end

-- Notes that a probe may begin: the next one may after the gap, and the gap grows.
local function probe(breakers, limit, breaker, now, gap_most_ms)
  breaker.number, breaker.next_ms = breaker.number + 1, now + breaker.gap_ms
  breaker.gap_ms = math.min(2 * breaker.gap_ms, gap_most_ms)
  keep_breaker(breakers, limit, breaker)
end
