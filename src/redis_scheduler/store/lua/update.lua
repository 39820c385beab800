-- update: replace records by compare-and-set; with a new delay also the due time, and the attempts start afresh. A
-- claimed task leaves its entry, so that the outcome of a claim with the old record does not count: no update is lost
-- to it. A task in delivery is queued again at once. A task that waits for a retry waits on in `due`: a worker that
-- lost its lease may still deliver it. A queued task keeps its place: its next claim reads the new record. A paused one
-- stays paused. A held one stays held, unless a delay is given, or it is under another limit now: then it is due at
-- once. One that awaits an acknowledgement is queued again as one in delivery is.
-- KEYS   writer tasks due queue entries failures dead dead_bytes paused awaiting held types sweep bell type_index...
-- ARGV   batch# expiry_s group waiting window_ms# types...
-- each   key expected (the record as it was) tail (the record less its due time) delay_ms ('' keeps the due time;
--        below 0: due_after.lua)
--        due_ms (the one that is kept) old_type_number has_other_limit# (1: so it leaves the line of the one before)
--        type_number
-- Returns '<now ms> ' and per task one code: U updated, D updated while in delivery, C changed meanwhile, N not
--        found, X dead and a new delay was asked for: replay it.
-- Bounds 200 tasks a call, some twelve commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   the first write grows: refused, nothing is written.
--- include clock due_after types bell writer foreign letters place marks deferral
--- names

local answer = applied(writer, batch)
if answer then
  return answer
end
-- Without the group this fails here, before any write.
redis.call('XPENDING', queue, group, '-', '+', 1)
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
local deferred_until, keep_longest = deferral(sweep, now)

-- Before the first write of a task and after its reads, since a foreign key may refuse those.
local has_begun = false
local function begin()
  if not has_begun then
    has_begun = true
    remember(writer, batch, '', expiry_s)
  end
end

local function wait_in_due(key, until_ms)
  redis.call('ZADD', due, until_ms, key)
  earliest_ms = math.min(earliest_ms, until_ms)
end

local function update(key, expected, tail, delay_ms, due_ms, old_type_number, has_other_limit, type_number)
  local record = redis.call('HGET', tasks, key)
  if record ~= expected then
    return record and 'C' or 'N'
  end
  if delay_ms ~= '' and type(redis.pcall('ZSCORE', dead, key)) == 'string' then
    return 'X'
  end
  local id = redis.call('HGET', entries, key)
  local pending = id and pending_of(queue, group, id)
  local is_awaiting = not id and type(redis.pcall('ZSCORE', awaiting, key)) == 'string'
  local in_delivery = pending and pending[2] ~= waiting or is_awaiting
  -- Before all else: Redis refuses it behind a foreign entry with the last possible id.
  local anew = in_delivery and delay_ms == '' and redis.call('XADD', queue, '*', 'key', key)
  begin()
  if is_awaiting then
    redis.call('ZREM', awaiting, key)
  end
  if delay_ms ~= '' then
    due_ms = due_after(now, delay_ms)
    if id then
      leave_queue(queue, group, entries, key, id)
    end
    remove_from_hash(failures, key)
    if type(redis.pcall('ZSCORE', paused, key)) == 'string' then
      redis.call('ZADD', paused, due_ms, key)
    else
      redis.pcall('ZREM', held, key)
      wait_in_due(key, due_ms)
    end
  elseif pending or is_awaiting then
    if id then
      leave_queue(queue, group, entries, key, id)
    end
    if anew then
      redis.call('HSET', entries, key, anew)
    else
      wait_in_due(key, deferred_until(now + math.max(0, window_ms - pending[3])))
    end
  elseif has_other_limit == 1 and redis.pcall('ZREM', held, key) == 1 then
    wait_in_due(key, deferred_until(now))
  end
  if delay_ms == '' then
    unmark(failures, key)
  end
  redis.call('HSET', tasks, key, string.format('{"due":%.0f', due_ms) .. tail)
  local is_listed_anew = old_type_number ~= type_number
  if is_listed_anew and type(redis.pcall('ZSCORE', dead, key)) ~= 'string' then
    remove_from_types(types, type_of, old_type_number, key)
    add_to_types(tasks, types, type_of, type_number, key, due_ms)
  elseif delay_ms ~= '' and type_number ~= '0' then
    add_to_types(tasks, types, type_of, type_number, key, due_ms)
  elseif type_number ~= '0' then
    recount(tasks, type_of, type_number, key)
  end
  if not id and delay_ms == '' and redis.pcall('HEXISTS', dead_bytes, key) == 1 then
    keep_letter(dead_bytes, tasks, failures, key)
  end
  return in_delivery and 'D' or 'U'
end

local codes = {}
for at = first, #ARGV, width do
  --- row
  codes[#codes + 1] = update(key, expected, tail, delay_ms, due_ms, old_type_number, has_other_limit, type_number)
end
if has_begun then
  keep_longest()
end
ring(bell, head_before_ms, earliest_ms)
answer = string.format('%.0f ', now) .. table.concat(codes)
remember(writer, batch, answer, expiry_s)
return answer
