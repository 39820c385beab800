-- judge: count what attempts to hosts came to. After so many failures in a row, and none well for a while, a host's
-- breaker opens: what comes for it is held. It is probed, and once a probe is well it closes in ten steps.
-- KEYS   breakers sweep held lines
-- ARGV   failures_most# (in a row, that open it) well_ms# (for so long none was well) gap_ms# (to the first probe)
--        gap_most_ms# (between probes) step_ms# (the least time of a step) most# (hosts to keep)
-- each   limit failures# (since the last that was well) wells# (how many were well)
-- Returns per host '<before> <state> <failures> <number> <since ms>': its state ('c' closed, 'o' open, 'r' closing),
--        failures in a row where it was closed, else those of this report; how often it was probed, or in which step it
--        was; and since when it was so (of one that closes: since when it was open).
-- Bounds 200 hosts a call, some three commands each; and a look at ten for those to forget.
-- Twice  failures are counted twice: a breaker opens, or takes a step, sooner.
-- Full   HDEL of nothing is the first write.
--- include clock lines limits breakers
--- names
local UNUSED_MS = 3600000
local now = now_ms(math.floor)
-- A foreign key in their places fails here, before any write.
local kept_count, has_changed = redis.call('HLEN', breakers), false
redis.call('HLEN', lines)
redis.call('ZCARD', held)
local salt = redis.call('HGET', sweep, 'salt')
redis.call('HDEL', sweep, '')

local function open(breaker, gap)
  breaker.state, breaker.number, breaker.since_ms = 'o', 0, now
  breaker.gap_ms, breaker.next_ms = math.min(gap, gap_most_ms), now + math.min(gap, gap_most_ms)
end

local function judged(breaker, failures, wells)
  if breaker.state == 'c' then
    if wells > 0 then
      breaker.number, breaker.since_ms = 0, now
    end
    breaker.number, breaker.next_ms = breaker.number + failures, now
    if breaker.number >= failures_most and now - breaker.since_ms >= well_ms then
      open(breaker, gap_ms)
    end
  elseif breaker.state == 'o' and wells > 0 then
    breaker.state, breaker.number, breaker.next_ms = 'r', 1, now + step_ms
  elseif breaker.state == 'r' and failures > wells then
    open(breaker, 2 * breaker.gap_ms)
  elseif breaker.state == 'r' and wells > 0 and now >= breaker.next_ms then
    breaker.number, breaker.next_ms = breaker.number + 1, now + step_ms
  end
end

local answer = {}
for at = first, #ARGV, width do
  --- row
  local kept = breaker_of(breakers, limit)
  local breaker = kept or {state = 'c', number = 0, since_ms = now, gap_ms = 0, next_ms = now}
  local before, number, since_ms = breaker.state, breaker.number, breaker.since_ms
  local failed = before == 'c' and wells == 0 and number + failures or failures
  judged(breaker, failures, wells)
  has_changed = has_changed or before ~= breaker.state
  if breaker.state == 'c' and breaker.number == 0 or breaker.state == 'r' and breaker.number > STEPS then
    has_changed = has_changed or breaker.state == 'r'
    breaker.state = 'c'
    redis.call('HDEL', breakers, limit)
  elseif kept or kept_count < most then
    kept_count = kept_count + (kept and 0 or 1)
    keep_breaker(breakers, limit, breaker)
  end
  answer[#answer + 1] = string.format('%s %s %.0f %.0f %.0f', before, breaker.state, failed,
    before == 'c' and 0 or number, since_ms)
end

local function has_held(limit)
  local number = salt and line_of(lines, limit, salt)
  return number and redis.call('ZCOUNT', held, line_range(number)) > 0
end

-- Forgets hosts that are closed and have not failed for long, or at once where others find no place; and those to which
-- nobody has sent anything for an hour, or they would keep their places for ever. (But not where a pause has kept tasks
-- held for so long: behind it all would begin at once.) Of these workers hear as of one that closes: else they would go
-- on asking for permits there.
local page = redis.pcall('HSCAN', breakers, math.floor(now / 100) % 65536, 'COUNT', 10)
for at = 1, page.err and 0 or #page[2], 2 do
  local breaker = breaker_of(breakers, page[2][at])
  local idle_ms = breaker and now - breaker.next_ms
  if not breaker or breaker.state == 'c' and (idle_ms > 60 * well_ms or kept_count >= most)
      or idle_ms > UNUSED_MS and not has_held(page[2][at]) then
    has_changed = has_changed or breaker and breaker.state ~= 'c'
    redis.call('HDEL', breakers, page[2][at])
  end
end
if has_changed then
  redis.call('HDEL', sweep, 'round_ms')
  redis.call('HSET', sweep, 'limits', string.format('%.0f', now_us()))
end
return answer
