-- rewind: after Redis' clock was set back, one part a call: start the leases again that would not end until the clock
-- has caught up, then bring forward, by as much, what was deferred before: tasks that stand in `due` for another time
-- than their own due time, and all that await an acknowledgement. Tasks at their due time keep what their client was
-- told. The times of what was deferred tell before which step back it was (include/steps.lua): where the clock is set
-- back again meanwhile, the rewind begins anew, and moves by both steps what was deferred before both. Redis keeps
-- where the rewind stands, so all workers together make one.
-- KEYS   queue due tasks awaiting sweep bell
-- ARGV   group waiting lease_idle_ms# (idle time that a lease starts at) unseen_ms# (for so long the clock
--        may have gone on after a sweep told the time last) limit# room# (bytes of records)
-- Returns {by how much it was set back (ms) in the first call of a rewind, else 0; how many leases were started or
--        tasks moved; 1 if there is more}.
-- Bounds `limit` entries, or as many tasks and about `room` bytes of their records.
-- Twice  a resend makes the next part.
-- Full   HDEL is the first write.
--- include clock bell lease foreign ours steps
--- names

-- Returns the id to go on from, or nothing.
local function start_leases(from_id)
  local rows, ids_of = redis.pcall('XPENDING', queue, group, from_id, '+', limit), {}
  if rows.err then  -- no id: foreign hands set it
    rows = redis.call('XPENDING', queue, group, '-', '+', limit)
  end
  local count = 0
  for _, row in ipairs(rows) do
    local id, owner, idle_ms = row[1], row[2], row[3]
    if owner ~= waiting and idle_ms < lease_idle_ms then
      ids_of[owner] = ids_of[owner] or {}
      table.insert(ids_of[owner], id)
      count = count + 1
    end
  end
  for owner, ids in pairs(ids_of) do
    lease(queue, group, owner, lease_idle_ms, ids)
  end
  return #rows == limit and '(' .. rows[limit][1], count
end

-- Where the rewind stands: in which place, at which time, and how many tasks at that time have been looked at.
local function position(place, from_ms, passed)
  return string.format('%s %.0f %d', place, from_ms, passed)
end

-- Whether a task in `due` stands there for another time than its record says, which the script that wrote it has put in
-- front. Returns nothing once there is no room to read it.
local function is_deferred(key, until_ms, is_first)
  room = room - redis.call('HSTRLEN', tasks, key)
  if room < 0 and not is_first then
    return nil
  end
  local due_ms = string.match(redis.call('HGET', tasks, key) or '', '^{"due":(%d+)')
  return due_ms ~= nil and until_ms ~= tonumber(due_ms)
end

-- Returns where to go on in this place, or nothing if it is done, and how many tasks were moved.
local function move(place, places, from_ms, passed, last_ms, sums, times)
  local range = {string.format('%.0f', from_ms), last_ms, 'WITHSCORES', 'LIMIT', passed, limit}
  local rows, moved, looked_at, at_ms = redis.call('ZRANGEBYSCORE', places, unpack(range)), 0, 0, from_ms
  local head_before_ms, earliest_ms, has_more = head_ms(due), math.huge, false
  for i = 1, #rows, 2 do
    local key, until_ms = rows[i], tonumber(rows[i + 1])
    local set_back_ms = sums[steps_since(until_ms, times)]
    if set_back_ms and places == due then
      local is_of_before = is_deferred(key, until_ms, i == 1)
      if is_of_before == nil then
        has_more = true
        break
      end
      set_back_ms = is_of_before and set_back_ms
    end
    looked_at, at_ms = looked_at + 1, until_ms
    if set_back_ms then
      until_ms = of_now(until_ms - set_back_ms, times)
      redis.call('ZADD', places, until_ms, key)
      earliest_ms = math.min(earliest_ms, until_ms)
      moved = moved + 1
    end
  end
  if places == due then
    ring(bell, head_before_ms, earliest_ms)
  end
  has_more = has_more or #rows == 2 * limit
  -- What stands at the last time is looked at again, unless all that was looked at does.
  return has_more and position(place, at_ms, at_ms > from_ms and 0 or passed + looked_at - moved), moved
end

local state = redis.call('HMGET', sweep, 'step_ms', 'rewind_from_ms', 'rewound', 'set_back_times', 'deferred_ms')
local sums, at = steps_of(state[1]), state[3]
if #sums == 0 then
  return {0, 0, 0}
end
-- Without the group, or with a foreign key in one of their places, this fails here, before any write.
redis.call('XPENDING', queue, group)
refuse_foreign({tasks}, {due, awaiting})
redis.call('HDEL', sweep, 'rewound')
local now, times = now_ms(math.floor), number_of(state[4])
local place, from_ms, passed = string.match(at or '', '^(%a+) (%d+) (%d+)$')
local next_at, count
if not at or string.sub(at, 1, 1) == '(' then
  next_at, count = start_leases(at or '-')
  next_at = next_at or position('due', now, 0)
elseif place == 'awaiting' then
  next_at, count = move(place, awaiting, tonumber(from_ms), tonumber(passed), '+inf', sums, times)
else
  local last_ms = state[5] and string.format('%.0f', number_of(state[2]) + number_of(state[5]) + unseen_ms) or '+inf'
  next_at, count = move('due', due, tonumber(from_ms or now), tonumber(passed or 0), last_ms, sums, times)
  next_at = next_at or position('awaiting', now, 0)
end
if next_at then
  redis.call('HSET', sweep, 'rewound', next_at)
else
  redis.call('HDEL', sweep, 'step_ms', 'rewind_from_ms')
end
return {at and 0 or sums[1], count, next_at and 1 or 0}
