-- look: what a worker looks for at a shard at intervals, in one call: one step of the sweep over the pending list, when
-- the next task is due, what is pending for this worker, and whether all is paused; it says that the worker lives, too.
-- The step, by XAUTOCLAIM, takes the entries whose retry time has come or whose worker is lost. Cursor and time of the
-- next step are kept in Redis, so all workers together make one sweep, and it gets past a long head of entries that may
-- not be taken. An entry on its last chance (one more lost worker, and it is buried) is never in flight at a consumer
-- beside another that lost its worker: entries beside a task that kills its workers have lost as many, and must not be
-- buried with it. The second of two such entries is passed over: it stays claimable, and the claim is not counted.
-- Tasks whose acknowledgement did not come in time are queued: whoever claims one writes that the attempt has failed.
-- KEYS   queue entries sweep awaiting pause_all due workers bell
-- ARGV   group consumer waiting window_ms limit# (0, or whatever it is while all is paused: only say that this worker
--        lives) lease_idle_ms (idle time that a lease starts at) void_after_ms# (Redis time after which this call is
--        void: it was stuck on the way while leases ran out) waiting_interval_ms# idle_interval_ms# look_interval_ms#
--        step_interval_ms# (of sweeps: while anything waits; else while anything is pending or awaiting; else; and
--        between the steps of one sweep) gap_ms# hold_ms# (after such a gap in the sweeps, an outage or all workers
--        down, nobody sweeps for as long as the hold, so that others settle or renew what they hold first; else an
--        outage longer than the lease would double all in flight. Where a worker looks less often than every second,
--        the gap begins when the latest look is due that any has promised) last_tries# (tries of a last chance)
--        clock_set_least_ms# (it was set back by as much)
-- Returns {{entry id, key, tries, …}, ms until the next step, now ms, 1 if leases and what was deferred are to be
--        rewound since the clock was set back, {consumer that was lost, entries taken of it, …}, when limits were set
--        last ('' for never), ms until the next task is due (-1: none is, or all is paused), 1 if all is paused, how
--        many entries were pending for this consumer, 1 if tasks stand in lines of tokens}.
-- Bounds XAUTOCLAIM looks at 10 entries for each it may take: 1,000 entries a call; and `limit` acknowledgements. Where
--        one of them lost its worker, also what this consumer has in flight, once. Once the clock was set back all that
--        waits, once: 10 ms for 1,000.
-- Twice  a resend makes the next step; what the first took is listed under the consumer's pending entries.
-- Rings  for a look of others, once, where a step is overdue and this worker may take nothing; only where others look
--        seldom.
-- Full   XAUTOCLAIM, HDEL or ZREM of nothing is the first write.
--- include clock fields foreign queued_from clock_set steps
--- names

-- How many entries each other worker holds, how many this one does, and how many are pending in all.
local function held_counts()
  local counts, own, pending = {}, 0, redis.call('XPENDING', queue, group)
  for _, row in ipairs(pending[4] or {}) do
    if row[1] == consumer then
      own = tonumber(row[2])
    elseif row[1] ~= waiting then
      counts[row[1]] = tonumber(row[2])
    end
  end
  return counts, own, pending[1]
end

local function is_any_waiting()
  return redis.call('XPENDING', queue, group, '-', '+', 1, waiting)[1]
end

-- A foreign key in its place is for the promotion to say.
local function due_in(now)
  local head = redis.pcall('ZRANGE', due, 0, 0, 'WITHSCORES')
  return head.err and 0 or head[2] and math.max(0, math.min(math.ceil(head[2] - now), 1e15)) or -1
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
local held_before, own, pending = held_counts()
local due_ms = is_all_paused and -1 or due_in(now)
local clock_ms = notice_clock_set(queue, group, waiting, window_ms, sweep, now, clock_set_least_ms, entries)
local state = redis.call('HMGET', sweep, 'cursor', 'next_ms', 'held_until_ms', 'seen_ms', 'step_ms', 'limits',
  'look_by_ms', 'turn')
local limits_set, has_lines = state[6] or '', state[8] and 1 or 0
local wait_ms, seen_ms = number_of(state[2]) - now, state[4] and number_of(state[4])
local must_rewind = #steps_of(state[5]) > 0 and 1 or 0
-- When the latest look is due that any worker has promised, where one looks less often than every second. All judge a
-- gap by it, so that whoever looks often takes no other's interval for one. Foreign hands set it where it is further
-- away than any interval.
local look_by_ms = number_of(state[7])
look_by_ms = look_by_ms < now + window_ms and look_by_ms or 0

local function is_gap()
  if look_by_ms > 0 then
    return now > look_by_ms + hold_ms - idle_interval_ms
  end
  return now - seen_ms > gap_ms
end

local function promise_look(at_ms)
  look_by_ms = math.max(look_by_ms, at_ms + look_interval_ms)
  redis.call('HSET', sweep, 'look_by_ms', string.format('%.0f', look_by_ms))
end

local function note_seen(at_ms, ...)
  redis.call('HSET', sweep, 'seen_ms', string.format('%.0f', at_ms), 'clock_ms', clock_ms, ...)
  if look_by_ms > 0 or look_interval_ms > idle_interval_ms then
    promise_look(at_ms)
  end
end

local function answer(taken, must_wait_ms, rewind, lost)
  return {taken, must_wait_ms, now, rewind, lost, limits_set, due_ms, is_all_paused and 1 or 0, own, has_lines}
end

-- While a worker makes the steps, whoever parks a task wakes nobody. Once that worker may take nothing, its next step
-- is overdue, and somebody else must be woken for it.
local function pass_on()
  local is_late = look_by_ms > 0 and number_of(state[2]) > 0 and wait_ms < -waiting_interval_ms
  if is_late and (is_any_waiting() or redis.pcall('ZRANGE', awaiting, 0, 0)[1]) then
    redis.call('HSET', sweep, 'next_ms', 0)
    redis.pcall('PUBLISH', bell, 'look')
  end
end

-- Only a worker that has joined, and not left, however slow its way here is. A full Redis refuses no removal, and
-- nothing behind it.
redis.pcall('ZREM', workers, '')
redis.pcall('ZADD', workers, 'XX', string.format('%.0f', now), consumer)
if now > void_after_ms then
  return answer({}, waiting_interval_ms, 0, {})
end
if seen_ms and is_gap() and next(held_before) then
  redis.call('HDEL', sweep, 'cursor')
  local held_until_ms = string.format('%.0f', now + hold_ms)
  note_seen(now + hold_ms, 'next_ms', held_until_ms, 'held_until_ms', held_until_ms)
  return answer({}, hold_ms, 0, {})
end
if limit == 0 or is_all_paused then
  redis.call('HDEL', sweep, 'seen_ms')
  note_seen(now)
  if not is_all_paused then
    pass_on()
  end
  return answer({}, is_all_paused and look_interval_ms or waiting_interval_ms, must_rewind, {})
end
-- A retry or a release brings the next step forward, but does not end the hold.
wait_ms = math.max(wait_ms, number_of(state[3]) - now)
-- Further away than any interval, so foreign hands set it: sweep now.
if wait_ms > 0 and wait_ms <= math.max(hold_ms, look_interval_ms) then
  -- Workers that look more often make the steps. While nothing is pending or awaited, this one keeps its own pace.
  if look_interval_ms > idle_interval_ms and pending == 0 and not redis.pcall('ZRANGE', awaiting, 0, 0)[1] then
    promise_look(now)
    wait_ms = math.max(wait_ms, look_interval_ms)
  end
  return answer({}, wait_ms, 0, {})
end

-- Read before any write, since it may be a foreign key.
redis.call('HLEN', entries)
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
local held_after = #ids > 0 and held_counts() or held_before
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
elseif is_any_waiting() then
  wait_ms = waiting_interval_ms
else
  local first = redis.pcall('ZRANGE', awaiting, 0, 0, 'WITHSCORES')[2]
  wait_ms = (pending > 0 or first) and idle_interval_ms or look_interval_ms
  -- What awaits has its own time.
  wait_ms = first and math.min(wait_ms, math.max(step_interval_ms, math.ceil(first - now))) or wait_ms
end
if must_rewind == 1 or #overdue == limit then
  wait_ms = math.min(wait_ms, step_interval_ms)
end
note_seen(now, 'cursor', cursor, 'next_ms', string.format('%.0f', now + wait_ms))
return answer(taken, wait_ms, must_rewind, lost)
