-- schedule: store new tasks, at most a few hundred a call.
-- KEYS   writer tasks due queue entries held counters types bell type_index...
-- ARGV   batch# expiry_s group queued_most# (entries that nobody has claimed, for tasks of tokens) types...
-- each   key delay_ms (below 0: due_after.lua) tail (the record less its due time) type_number
-- Returns '<now ms>': a task is due at now + delay, or at its time. What is due now goes straight to the
--        queue, unless it is of a token, and the queue is full or others wait for it.
-- Bounds 200 tasks a call, some four commands each.
-- Twice  the writer's batch number: a resend answers as the first did, even if the tasks were delivered meanwhile.
-- Full   the first write grows: refused, nothing is written.
--- include clock due_after types bell writer foreign turns crowd
--- names

local answer = applied(writer, batch)
if answer then
  return answer
end
local now = now_ms(math.ceil)
local head_before_ms, earliest_ms = head_ms(due), math.huge
local records, later, queued, typed = {}, {}, {}, {}
local must_wait = crowd(held, queue, group, queued_most, (#ARGV - first + 1) / width)
for at = first, #ARGV, width do
  --- row
  local due_ms = due_after(now, delay_ms)
  records[#records + 1] = key
  records[#records + 1] = string.format('{"due":%.0f', due_ms) .. tail
  if due_ms > now or type_number ~= '0' and must_wait(type_of(string.match(type_number, '%d+$'))) then
    later[#later + 1] = due_ms
    later[#later + 1] = key
    earliest_ms = math.min(earliest_ms, due_ms)
  else
    queued[#queued + 1] = key
    queued[#queued + 1] = redis.call('XADD', queue, '*', 'key', key)
  end
  if type_number ~= '0' then
    typed[#typed + 1] = {type_number, key, due_ms}
  end
end

-- If a foreign key refuses a write, the task is taken out again. `due` was read, and XADD came before all else.
local function refused(reply)
  for i = 1, #queued, 2 do
    redis.call('XDEL', queue, queued[i + 1])
    remove_from_hash(entries, queued[i])
  end
  return reply
end

if #queued > 0 then
  local named = redis.pcall('HSET', entries, unpack(queued))
  if type(named) == 'table' then
    return refused(named)
  end
end
local stored = redis.pcall('HSET', tasks, unpack(records))
if type(stored) == 'table' then
  return refused(stored)
end
if #later > 0 then
  redis.call('ZADD', due, unpack(later))
  ring(bell, head_before_ms, earliest_ms)
end
for _, task in ipairs(typed) do
  add_to_types(tasks, types, type_of, task[1], task[2], task[3])
end
add_to_counter(counters, 'scheduled', #records / 2)
answer = string.format('%.0f', now)
remember(writer, batch, answer, expiry_s)
return answer
