-- rewind: after Redis' clock was set back, one part a call: start the leases again that would not end until the clock
-- has caught up, then bring forward, by as much, tasks that were deferred before. Deferred are tasks that stand in
-- `due` for later than their own due time; all others keep the time that their client was told. Redis keeps where the
-- rewind stands, so all workers together make one.
-- KEYS   queue due tasks sweep bell
-- ARGV   group waiting lease_idle_ms# (idle time that a lease starts at)
--        delay_ms# (the longest of a retry: what may have been asked for since is left alone)
--        spread_ms# (how much longer anything is deferred) limit# room# (bytes of records)
-- Returns {by how much it was set back (ms) in the first call of a rewind, else 0; how many leases were started or
--        tasks moved; 1 if there is more}.
-- Bounds `limit` entries, or as many tasks and about `room` bytes of their records.
-- Twice  a resend makes the next part.
-- Full   HDEL is the first write.
--- include clock bell lease foreign
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

-- `passed` are the tasks behind the first one concerned that have been looked at: a task that moves may come to stand
-- before them. Returns how many are passed, or nothing if there are no more.
local function move_deferred(set_back_ms, from_ms, passed)
  local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
  local first = redis.call('ZCOUNT', due, '-inf', string.format('(%.0f', from_ms)) + passed
  local rows = redis.call('ZRANGE', due, first, first + limit - 1, 'WITHSCORES')
  local moved, has_more = 0, #rows == 2 * limit
  for i = 1, #rows, 2 do
    local key, until_ms = rows[i], tonumber(rows[i + 1])
    room = room - redis.call('HSTRLEN', tasks, key)
    if until_ms > from_ms + delay_ms + spread_ms then
      has_more = false
      break
    elseif room < 0 and i > 1 then
      has_more = true
      break
    end
    -- The script that wrote the record put its due time in front.
    local due_ms = string.match(redis.call('HGET', tasks, key) or '', '^{"due":(%d+)')
    if due_ms and until_ms > tonumber(due_ms) and until_ms > now + delay_ms then
      until_ms = until_ms - set_back_ms
      redis.call('ZADD', due, until_ms, key)
      earliest_ms = math.min(earliest_ms, until_ms)
      moved = moved + 1
    end
    passed = passed + (until_ms >= from_ms and 1 or 0)
  end
  ring(bell, head_before_ms, earliest_ms)
  return has_more and passed, moved
end

local state = redis.call('HMGET', sweep, 'step_ms', 'rewind_from_ms', 'rewound')
local set_back_ms, from_ms, at = number_of(state[1]), number_of(state[2]), state[3]
if set_back_ms == 0 then
  return {0, 0, 0}
end
-- Without the group, or with a foreign key in the place of `tasks`, this fails here, before any write.
redis.call('XPENDING', queue, group)
redis.call('HLEN', tasks)
redis.call('HDEL', sweep, 'rewound')
local next_at, count
if not at or string.sub(at, 1, 1) == '(' then
  next_at, count = start_leases(at or '-')
  next_at = next_at or 0
else
  next_at, count = move_deferred(set_back_ms, from_ms, number_of(at))
end
if next_at then
  redis.call('HSET', sweep, 'rewound', next_at)
else
  redis.call('HDEL', sweep, 'step_ms', 'rewind_from_ms')
end
return {at and 0 or set_back_ms, count, next_at and 1 or 0}
