-- How a limit is set, and how much of it is left; to be included after `lines`.
local RATE_WINDOW_MS = 300  -- what a rate may catch up with after a pause of those who go by it

-- How many may run at once, the ms from one attempt to the next (0: no rate), and whether none begins: of so many
-- shards each has its part of a limit, and one at once at least.
local function limit_of(limits, limit, default_concurrency, default_gap_ms, part, parts)
  local kept = redis.call('HGET', limits, limit)
  local concurrency, rate, per_ms, is_paused = string.match(kept or '', '^(%S+) (%S+) (%d+) ([01])$')
  local most, gap_ms = tonumber(concurrency or '') or default_concurrency, default_gap_ms
  if tonumber(rate or '') then
    gap_ms = tonumber(rate) > 0 and tonumber(per_ms) / tonumber(rate) or 0
  end
  local own_most = math.max(1, math.floor((most + parts - 1 - part) / parts))
  return most > 0 and own_most or math.huge, gap_ms * parts, is_paused == '1'
end

-- How many attempts a rate lets begin now, and from which time on it counts.
local function rate_left(now, used_ms, gap_ms)
  local window_ms = math.max(RATE_WINDOW_MS, gap_ms)
  local from_ms = math.max(used_ms or 0, now)
  if from_ms > now + window_ms + gap_ms then
    from_ms = now  -- Redis' clock was set back, or the rate was another
  end
  return math.max(0, math.floor((now + window_ms - from_ms) / gap_ms + 1e-6)), from_ms
end

-- How many permits of a line are held. None lasts longer than `permit_ms`: what ends later was made before Redis' clock
-- was set back.
local function permits_held(permits, number, now, permit_ms)
  return redis.call('ZCOUNT', permits, line_score(number, now), line_score(number, now + permit_ms + UNIT_MS))
end
