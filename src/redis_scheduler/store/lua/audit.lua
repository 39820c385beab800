-- audit: look at suspects wherever they stand, all at one moment, so that a task that moves is never taken for a fault;
-- and repair what is wrong in the same moment, if asked to. Counts nothing: tasks lost or found again are left to
-- `balance`.
-- KEYS   tasks due queue entries failures dead dead_bytes paused idempotency idempotency_ends awaiting held types bell
--        counters type_index...
-- ARGV   group repair ('1' to repair) types...
-- each   what (the suspect is) subject (its key, id or name) due_ms ('' unknown) head (how its record begins; '' where
--        that does not matter) type_number (what it is, task: a key of `tasks`; unreadable: one whose record says
--        nothing; member: a key of any other place; listed: a key of the index of a type, label or token; foreign: one
--        whose record has not this type, label or token; type: a name of `types`; entry: an id of the queue; pending:
--        an id of the pending list; idempotency: an id; counter: a name in `counters`; sum: of what a token has
--        waiting, in `due_ms`, with that which is kept of it in `head`)
-- Returns per fault: the suspect's number, the kind of the fault, where it is.
-- Bounds about eight commands a suspect, and as many to repair it: 100 suspects take 0.3 ms, or 2 ms if all are faults.
-- Twice  a repaired fault is no fault any more: a resend repairs nothing, and tells of nothing.
-- Full   what is removed or queued anew begins with a removal; what is put back or listed only grows: refused, nothing
--        is written.
--- include clock types bell fields foreign ours letters
--- names
local repairs = repair == '1'

local head_before_ms, earliest_ms, number, answer = head_ms(due), math.huge, 0, {}

if repairs then
  -- A foreign key in one of their places fails here, before any write.
  refuse_foreign({tasks, entries, failures, counters}, {dead, paused, awaiting, held})
  redis.call('XLEN', queue)
  redis.call('SCARD', types)
end

-- Notes a fault; returns whether to repair it.
local function repairs_fault(kind, where)
  answer[#answer + 1] = number
  answer[#answer + 1] = kind
  answer[#answer + 1] = where
  return repairs
end

-- The entry of an id, which may be any text, and the key that it holds.
local function read_entry(id)
  local entry = redis.pcall('XRANGE', queue, id, id)[1]
  if entry and entry[1] == id then
    local fields = entry[2]
    return entry, #fields == 2 and fields[1] == 'key' and fields[2]
  end
end

local function leave_queue(id)
  redis.call('XACK', queue, group, id)
  redis.call('XDEL', queue, id)
end

-- Whether a record still begins as it was read: its type and labels may have been changed since.
local function is_as_read(key, head)
  return string.sub(redis.call('HGET', tasks, key) or '', 1, #head) == head
end

-- Whether a task stands in an index; in that of a token with the bytes that it has.
local function is_in(index, name, key)
  if is_token(name) then
    return bytes_of(redis.call('HGET', index, key)) == redis.call('HSTRLEN', tasks, key)
  end
  return redis.call('ZSCORE', index, key)
end

local function look_at_task(what, key, due_ms, head, type_number)
  local has_record = redis.call('HEXISTS', tasks, key) == 1
  if has_record and what == 'member' then
    return
  end
  local id, is_due = redis.call('HGET', entries, key), redis.call('ZSCORE', due, key)
  local is_paused, is_dead = redis.call('ZSCORE', paused, key), redis.call('ZSCORE', dead, key)
  local is_awaiting, is_held = redis.call('ZSCORE', awaiting, key), redis.call('ZSCORE', held, key)
  local is_queued, places = false, {}
  if id then
    local _, held = read_entry(id)
    is_queued = held == key
    places[1] = 'entries'
  end
  if is_due then
    places[#places + 1] = 'due'
  end
  if is_paused then
    places[#places + 1] = 'paused'
  end
  if is_awaiting then
    places[#places + 1] = 'awaiting'
  end
  if is_held then
    places[#places + 1] = 'held'
  end
  if is_dead then
    places[#places + 1] = 'dead'
  end

  if not has_record then
    local has_failure = redis.call('HEXISTS', failures, key) == 1
    local kind = places[1] and 'no record' or has_failure and 'stray failure'
    if kind and repairs_fault(kind, table.concat(places, ', ')) then
      if is_queued then
        leave_queue(id)
      end
      redis.call('HDEL', entries, key)
      redis.call('ZREM', due, key)
      redis.call('ZREM', paused, key)
      redis.call('ZREM', awaiting, key)
      redis.call('ZREM', held, key)
      redis.call('ZREM', dead, key)
      drop_letter(dead_bytes, key)
      redis.call('HDEL', failures, key)
    end
    return
  end

  if what == 'unreadable' then
    repairs_fault('unreadable record', '')
  end
  -- The most imminent of the places that hold it.
  local kept = is_queued and 'entries' or is_due and 'due' or is_held and 'held'
    or is_awaiting and 'awaiting' or is_paused and 'paused' or is_dead and 'dead'
  if #places == 0 then
    if due_ms ~= '' and repairs_fault('nowhere', '') then
      redis.call('ZADD', due, due_ms, key)
      earliest_ms = math.min(earliest_ms, due_ms)
    end
  elseif #places > 1 then
    if repairs_fault('several places', table.concat(places, ', ')) then
      if kept ~= 'entries' then
        redis.call('HDEL', entries, key)
      end
      if kept ~= 'due' then
        redis.call('ZREM', due, key)
      end
      if kept ~= 'paused' then
        redis.call('ZREM', paused, key)
      end
      if kept ~= 'awaiting' then
        redis.call('ZREM', awaiting, key)
      end
      if kept ~= 'held' then
        redis.call('ZREM', held, key)
      end
      if kept ~= 'dead' then
        redis.call('ZREM', dead, key)
        drop_letter(dead_bytes, key)
      end
    end
  elseif not kept and repairs_fault('no entry', id) then
    redis.call('HDEL', entries, key)
    redis.call('HSET', entries, key, redis.call('XADD', queue, '*', 'key', key))
  end

  for type_at in string.gmatch(type_number, '[1-9]%d*') do
    local index, name = type_of(type_at)
    -- No task may be put into a foreign key.
    local is_listed = not is_ours(index, name)
      or is_in(index, name, key) and redis.call('SISMEMBER', types, name) == 1
    local kind = is_token(name) and 'not counted' or 'not listed'
    if kept ~= 'dead' and not is_listed and is_as_read(key, head) and repairs_fault(kind, name) then
      if is_token(name) then
        local before, size = bytes_of(redis.call('HGET', index, key)), redis.call('HSTRLEN', tasks, key)
        redis.call('HSET', index, key, size)
        redis.pcall('HINCRBY', index, '.bytes', string.format('%.0f', size - before))
      else
        redis.call('ZADD', index, due_ms, key)
      end
      redis.call('SADD', types, name)
    end
  end
end

-- A task that stands nowhere is to be put back, so it stays listed.
local function look_at_listed(what, key, head, type_number, index, name)
  local is_of_no_use = what == 'foreign' and is_as_read(key, head) or redis.call('HEXISTS', tasks, key) == 0
    or redis.call('ZSCORE', dead, key) and redis.call('HEXISTS', entries, key) == 0
      and not redis.call('ZSCORE', due, key) and not redis.call('ZSCORE', paused, key)
      and not redis.call('ZSCORE', awaiting, key) and not redis.call('ZSCORE', held, key)
  local is_there = redis.call(is_token(name) and 'HGET' or 'ZSCORE', index, key)
  local kind = is_token(name) and 'wrongly counted' or 'wrongly listed'
  if is_of_no_use and is_there and repairs_fault(kind, name) then
    remove_from_types(types, type_of, type_number, key)
  end
end

local function look_at_type(index, name)
  if not is_ours(index, name) then
    -- Not ours: nothing is repaired.
    repairs_fault('foreign key', name)
  elseif is_empty(index, name) and redis.call('SISMEMBER', types, name) == 1 and repairs_fault('empty type', '') then
    redis.call('UNLINK', index)
    redis.call('SREM', types, name)
  end
end

-- The sum was made by a scan, so it tells something only while what is kept has not changed since before that.
local function look_at_sum(sum, seen, index, name)
  local is_unchanged = is_ours(index, name) and (redis.call('HGET', index, '.bytes') or '') == seen
  if is_unchanged and seen ~= sum and repairs_fault('wrong sum', name) then
    redis.call('HSET', index, '.bytes', sum)
  end
end

-- Whether an id is behind another. Its parts reach 2^64, so they are compared as texts: the longer is the larger.
local function is_behind(id, other)
  local ms, sequence = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_sequence = string.match(other, '^(%d+)-(%d+)$')
  local part, other_part = ms, other_ms
  if ms == other_ms then
    part, other_part = sequence, other_sequence
  end
  return #part > #other_part or #part == #other_part and part > other_part
end

-- The id up to which entries were given to consumers; read once a call.
local last_delivered

local function read_last_delivered()
  -- Without the group this fails here, before any write.
  redis.call('XPENDING', queue, group, '-', '+', 1)
  for _, fields in ipairs(redis.call('XINFO', 'GROUPS', queue)) do
    if value_of(fields, 'name') == group then
      last_delivered = value_of(fields, 'last-delivered-id')
    end
  end
end

-- A claimed entry is pending from the same moment on. So nobody has this one, and nobody will get it.
local function is_forgotten(id, key)
  return not is_behind(id, last_delivered) and not redis.call('XPENDING', queue, group, id, id, 1)[1]
    and redis.call('HEXISTS', tasks, key) == 1
end

local function queue_anew(id, key)
  redis.call('XDEL', queue, id)
  local last = value_of(redis.call('XINFO', 'STREAM', queue), 'last-generated-id')
  if is_behind(last_delivered, last) then
    -- The group is ahead of all entries, and would pass by a new one, too.
    redis.call('XGROUP', 'SETID', queue, group, last)
    last_delivered = last
  end
  redis.call('HSET', entries, key, redis.call('XADD', queue, '*', 'key', key))
end

local function look_at_entry(id)
  if not last_delivered then
    read_last_delivered()
  end
  local entry, key = read_entry(id)
  if not entry then
    return
  end
  if not (key and redis.call('HGET', entries, key) == id) then
    if repairs_fault('stray entry', key or '?') then
      leave_queue(id)
    end
  elseif is_forgotten(id, key) and repairs_fault('forgotten', key) then
    queue_anew(id, key)
  end
end

local function look_at_pending(id)
  -- Without the group this fails at the first of them, before any write.
  local pending = redis.call('XPENDING', queue, group, id, id, 1)[1]
  if pending and not read_entry(id) and repairs_fault('stray pending', pending[2]) then
    redis.call('XACK', queue, group, id)
  end
end

-- An id that has no end would be kept for ever: it gets one in a day, which is how long ids are kept by default.
local function look_at_idempotency(id)
  local is_kept = redis.call('HEXISTS', idempotency, id) == 1
  local has_end = redis.call('ZSCORE', idempotency_ends, id)
  if is_kept and not has_end then
    if repairs_fault('no end', '') then
      redis.call('ZADD', idempotency_ends, string.format('%.0f', now_ms(math.ceil) + 86400000), id)
    end
  elseif has_end and not is_kept and repairs_fault('stray end', '') then
    redis.call('ZREM', idempotency_ends, id)
  end
end

-- A number that HINCRBY takes, and small enough to be exact in Lua.
local function look_at_counter(name)
  local count = redis.call('HGET', counters, name)
  local is_number = not count or count == '0' or #count <= 15 and string.find(count, '^%-?[1-9]%d*$')
  if not is_number and repairs_fault('no number', '') then
    redis.call('HDEL', counters, name)
  end
end

for at = first, #ARGV, width do
  --- row
  number = number + 1
  if what == 'entry' then
    look_at_entry(subject)
  elseif what == 'pending' then
    look_at_pending(subject)
  elseif what == 'idempotency' then
    look_at_idempotency(subject)
  elseif what == 'counter' then
    look_at_counter(subject)
  elseif what == 'sum' then
    look_at_sum(due_ms, head, type_of(type_number))
  elseif what == 'type' then
    look_at_type(type_of(type_number))
  elseif what == 'listed' or what == 'foreign' then
    local index, name = type_of(type_number)
    if is_ours(index, name) then
      look_at_listed(what, subject, head, type_number, index, name)
    end
  else
    look_at_task(what, subject, due_ms, head, type_number)
  end
end
ring(bell, head_before_ms, earliest_ms)
return answer
