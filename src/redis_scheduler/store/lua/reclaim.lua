-- reclaim: one step of the sweep over the pending list, by XAUTOCLAIM: take the entries whose retry time has come or
-- whose worker is lost. Cursor and time of the next step are kept in Redis, so all workers together make one sweep, and
-- it gets past a long head of entries that may not be taken. An entry on its last chance (one more lost worker, and it
-- is buried) is never in flight at a consumer beside another that lost its worker: entries beside a task that kills its
-- workers have lost as many, and must not be buried with it. The second of two such entries is passed over: it stays
-- claimable, and the claim is not counted. Tasks whose acknowledgement did not come in time are queued: whoever claims
-- one writes that the attempt has failed.
-- KEYS   queue entries sweep awaiting pause_all
-- ARGV   group consumer waiting window_ms limit# (0, or whatever it is while all is paused: only say that this worker
--        lives) lease_idle_ms (idle time that a lease starts at) void_after_ms# (Redis time after which this call is
--        void: it was stuck on the way while leases ran out) waiting_interval_ms# idle_interval_ms# step_interval_ms#
--        (of sweeps: while anything waits, else, and between the steps of one sweep) hold_ms# (after a gap of this
--        length in the sweeps, an outage or all workers down, nobody sweeps for as long, so that others settle or renew
--        what they hold first; else an outage longer than the lease would double all in flight) last_tries# (tries of a
--        last chance) clock_set_least_ms# (it was set back by as much)
-- Returns {{entry id, key, tries, …}, ms until the next step, now ms, 1 if leases and what was deferred are to be
--        rewound since the clock was set back, {consumer that was lost, entries taken of it, …}, when limits were set
--        last ('' for never)}.
-- Bounds XAUTOCLAIM looks at 10 entries for each it may take: 1,000 entries a call; and `limit` acknowledgements. Where
--        one of them lost its worker, also what this consumer has in flight, once. Once the clock was set back all that
--        waits, once: 10 ms for 1,000.
-- Twice  a resend makes the next step; what the first took is listed under the consumer's pending entries.
-- Full   XAUTOCLAIM or HDEL is the first write.
--- include clock fields foreign queued_from clock_set
--- names

-- How many entries each other worker holds.
local function held_by_others()
  local counts = {}
  for _, row in ipairs(redis.call('XPENDING', queue, group)[4] or {}) do
    if row[1] ~= consumer and row[1] ~= waiting then
      counts[row[1]] = tonumber(row[2])
    end
  end
  return counts
end

-- Redis is asked, not the worker, which may not know yet what a lost answer brought. The idle time leaves out what this
-- step has claimed and not judged: that is not leased yet.
local function most_tries_in_flight()
  local most = 0
  for _, row in ipairs(redis.call('XPENDING', queue, group, 'IDLE', lease_idle_ms, '-', '+', 20000, consumer)) do
    most = math.max(most, row[4])
  end
  return most
end

local now, is_all_paused = now_ms(math.floor), redis.call('GET', pause_all)
local clock_ms = notice_clock_set(queue, group, waiting, window_ms, sweep, now, clock_set_least_ms, entries)
local state = redis.call('HMGET', sweep, 'cursor', 'next_ms', 'held_until_ms', 'seen_ms', 'step_ms', 'limits')
local limits_set = state[6] or ''
local wait_ms, seen_ms = number_of(state[2]) - now, state[4] and number_of(state[4])
local must_rewind = number_of(state[5]) > 0 and 1 or 0
if now > void_after_ms then
  return {{}, waiting_interval_ms, now, 0, {}, limits_set}
end
if seen_ms and now - seen_ms > hold_ms and next(held_by_others()) then
  redis.call('HDEL', sweep, 'cursor')
  local held_until_ms = string.format('%.0f', now + hold_ms)
  redis.call('HSET', sweep, 'next_ms', held_until_ms, 'held_until_ms', held_until_ms, 'seen_ms', held_until_ms,
    'clock_ms', clock_ms)
  return {{}, hold_ms, now, 0, {}, limits_set}
end
if limit == 0 or is_all_paused then
  redis.call('HDEL', sweep, 'seen_ms')
  redis.call('HSET', sweep, 'seen_ms', string.format('%.0f', now), 'clock_ms', clock_ms)
  return {{}, waiting_interval_ms, now, must_rewind, {}, limits_set}
end
-- A retry or a release brings the next step forward, but does not end the hold.
wait_ms = math.max(wait_ms, number_of(state[3]) - now)
-- Further away than any interval, so foreign hands set it: sweep now.
if wait_ms > 0 and wait_ms <= hold_ms then
  return {{}, wait_ms, now, 0, {}, limits_set}
end

-- Read before any write, since it may be a foreign key.
redis.call('HLEN', entries)
local held_before = held_by_others()
local cursor, ids, looked_at = state[1] or '0-0', {}, 0
repeat
  local wanted = limit - #ids
  local reply = redis.pcall('XAUTOCLAIM', queue, group, consumer, window_ms, cursor, 'COUNT', wanted, 'JUSTID')
  if reply.err and cursor ~= '0-0' then
    -- No id, so foreign hands set it: begin anew.
    reply = redis.call('XAUTOCLAIM', queue, group, consumer, window_ms, '0-0', 'COUNT', wanted, 'JUSTID')
  elseif reply.err then
    return reply
  end
  cursor = reply[1]
  for _, id in ipairs(reply[2]) do
    ids[#ids + 1] = id
  end
  looked_at = looked_at + 10 * wanted
until cursor == '0-0' or #ids >= limit or looked_at >= 1000

local lost = {}
local held_after = #ids > 0 and held_by_others() or held_before
for name, count in pairs(held_before) do
  if count > (held_after[name] or 0) then
    lost[#lost + 1] = name
    lost[#lost + 1] = count - (held_after[name] or 0)
  end
end

local taken, most_tries = {}, nil
for _, id in ipairs(ids) do
  local entry = redis.call('XRANGE', queue, id, id)[1]
  local key = entry and entry[2][2]
  if key and redis.call('HGET', entries, key) == id then
    -- Foreign hands may have set more than XCLAIM takes.
    local tries = math.min(redis.call('XPENDING', queue, group, id, id, 1)[1][4], 1e9) + 1
    local is_passed_over = false
    if tries > 1 then
      most_tries = most_tries or most_tries_in_flight()
    end
    -- An entry with more tries is not begun but buried.
    if tries > 1 and tries <= last_tries then
      local most = math.max(most_tries, tries)
      is_passed_over = most_tries > 1 and most >= last_tries
      most_tries = is_passed_over and most_tries or most
    end
    if is_passed_over then
      redis.call('XCLAIM', queue, group, waiting, 0, id, 'IDLE', window_ms, 'JUSTID')
    else
      redis.call('XCLAIM', queue, group, consumer, 0, id, 'IDLE', lease_idle_ms, 'RETRYCOUNT', tries, 'JUSTID')
      taken[#taken + 1] = id
      taken[#taken + 1] = key
      taken[#taken + 1] = tries
    end
  else
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
  end
end

local overdue = redis.pcall('ZRANGEBYSCORE', awaiting, '-inf', now, 'LIMIT', 0, limit)
overdue = overdue.err and {} or overdue
for _, key in ipairs(overdue) do
  if queue_from(awaiting, queue, entries, key) then
    break
  end
end

if cursor ~= '0-0' then
  wait_ms = #ids >= limit and #taken > 0 and 0 or step_interval_ms
elseif redis.call('XPENDING', queue, group, '-', '+', 1, waiting)[1] then
  wait_ms = waiting_interval_ms
else
  wait_ms = idle_interval_ms
end
if must_rewind == 1 or #overdue == limit then
  wait_ms = math.min(wait_ms, step_interval_ms)
end
redis.call('HSET', sweep, 'cursor', cursor, 'next_ms', string.format('%.0f', now + wait_ms),
  'seen_ms', string.format('%.0f', now), 'clock_ms', clock_ms)
return {taken, wait_ms, now, must_rewind, lost, limits_set}
