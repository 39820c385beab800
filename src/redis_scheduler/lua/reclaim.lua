-- reclaim: one step of the sweep over the pending list, by XAUTOCLAIM: take the entries whose retry time has come or
-- whose worker is lost. Cursor and time of the next step are kept in Redis, so all workers together make one sweep,
-- and what lies behind a long head of ineligible entries is reached.
-- An entry whose last chance it is (one more lost worker, and it is buried) is taken without another that lost its
-- worker, and nothing of the kind is brought until it has ended: what was in flight beside a task that kills its worker
-- has lost as many, and must not be buried with it. What is passed over so is left claimable, its claims uncounted.
-- KEYS   queue, entries, sweep
-- ARGV   group, consumer, waiting consumer, window (ms), limit (0: only say that this worker lives), idle time that a lease starts at (ms),
--        Redis time after which this call is void (ms): it was stuck on the way while leases ran out,
--        interval of sweeps (ms): while anything waits, else, and between the steps of one sweep,
--        hold (ms): after a gap as long in the sweeps (an outage, all workers down), what others hold is left to them for
--        as long, to be settled or renewed first; else an outage longer than the lease would double all in flight,
--        claims of a last chance, the entry that this consumer took so before ('' if none)
-- Returns {{entry id, key, claims since the last outcome, …}, ms until the next step, now ms}.
-- Bounds XAUTOCLAIM looks at 10 entries for each it may take: 1,000 entries a call.
-- Twice  a resend makes the next step; what the first took is listed under the consumer's pending entries.
-- Full   XAUTOCLAIM or HDEL is the first write.
--- include clock
local queue, entries, sweep = unpack(KEYS)
local group, consumer, waiting, window_ms, limit = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local lease_idle_ms, void_after_ms = ARGV[6], tonumber(ARGV[7])
local waiting_interval_ms, idle_interval_ms, step_interval_ms = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local hold_ms, last_claims, last_chance = tonumber(ARGV[11]), tonumber(ARGV[12]), ARGV[13]

local function others_hold_entries()
  for _, row in ipairs(redis.call('XPENDING', queue, group)[4] or {}) do
    if row[1] ~= consumer and row[1] ~= waiting then
      return true
    end
  end
  return false
end

local now = now_ms(math.floor)
local state = redis.call('HMGET', sweep, 'cursor', 'next_ms', 'held_until_ms', 'seen_ms')
local wait_ms, seen_ms = tonumber(state[2] or 0) - now, tonumber(state[4])
if now > void_after_ms then
  return {{}, waiting_interval_ms, now}
end
if seen_ms and now - seen_ms > hold_ms and others_hold_entries() then
  redis.call('HDEL', sweep, 'cursor')
  local held_until_ms = string.format('%.0f', now + hold_ms)
  redis.call('HSET', sweep, 'next_ms', held_until_ms, 'held_until_ms', held_until_ms, 'seen_ms', held_until_ms)
  return {{}, hold_ms, now}
end
if limit == 0 then
  redis.call('HDEL', sweep, 'seen_ms')
  redis.call('HSET', sweep, 'seen_ms', string.format('%.0f', now))
  return {{}, waiting_interval_ms, now}
end
-- A retry or a release brings the next step forward, but does not end the hold.
wait_ms = math.max(wait_ms, tonumber(state[3] or 0) - now)
-- Further away than any interval: the clock was set back; sweep now.
if wait_ms > 0 and wait_ms <= hold_ms then
  return {{}, wait_ms, now}
end

local cursor, ids, looked_at = state[1] or '0-0', {}, 0
repeat
  local wanted = limit - #ids
  local reply = redis.call('XAUTOCLAIM', queue, group, consumer, window_ms, cursor, 'COUNT', wanted, 'JUSTID')
  cursor = reply[1]
  for _, id in ipairs(reply[2]) do
    ids[#ids + 1] = id
  end
  looked_at = looked_at + 10 * wanted
until cursor == '0-0' or #ids >= limit or looked_at >= 1000

-- Whether the last chance that this consumer took before is under way still: such an entry has as many claims yet.
local row = last_chance ~= '' and redis.call('XPENDING', queue, group, last_chance, last_chance, 1, consumer)[1]
local is_alone, has_lost_one = row and row[4] >= last_claims, false

local taken = {}
for _, id in ipairs(ids) do
  local entry = redis.call('XRANGE', queue, id, id)[1]
  local key = entry and entry[2][2]
  if key and redis.call('HGET', entries, key) == id then
    local claims = redis.call('XPENDING', queue, group, id, id, 1)[1][4] + 1
    local has_lost_worker, is_last_chance = claims > 1 and claims <= last_claims, claims == last_claims
    if has_lost_worker and (is_alone or is_last_chance and has_lost_one) then
      redis.call('XCLAIM', queue, group, waiting, 0, id, 'IDLE', window_ms, 'JUSTID')
    else
      redis.call('XCLAIM', queue, group, consumer, 0, id, 'IDLE', lease_idle_ms, 'RETRYCOUNT', claims, 'JUSTID')
      taken[#taken + 1] = id
      taken[#taken + 1] = key
      taken[#taken + 1] = claims
      has_lost_one = has_lost_one or has_lost_worker
      is_alone = is_alone or is_last_chance
    end
  else
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
  end
end

if cursor ~= '0-0' then
  wait_ms = #ids >= limit and #taken > 0 and 0 or step_interval_ms
elseif redis.call('XPENDING', queue, group, '-', '+', 1, waiting)[1] then
  wait_ms = waiting_interval_ms
else
  wait_ms = idle_interval_ms
end
redis.call('HSET', sweep, 'cursor', cursor, 'next_ms', string.format('%.0f', now + wait_ms), 'seen_ms', string.format('%.0f', now))
return {taken, wait_ms, now}
