-- schedule: enter new tasks, at most a few hundred a call.
-- KEYS   writer, tasks, due, queue, entries, counters, types, bell, then the index of each type named
-- ARGV   batch number, writer's expiry (s), number of types, their names,
--        then per task: key, delay (ms), record less its due time, type (its number above, or 0)
-- Returns '<now ms>': a task is due at now + delay. A delay of 0 goes straight to the queue.
-- Bounds 200 tasks a call, some four commands each.
-- Twice  the writer's batch number: a resend answers as the first did, even if the tasks were delivered meanwhile.
-- Full   the first write grows: refused, nothing is written.
--- include clock types bell writer foreign
local writer, tasks, due, queue, entries, counters, types, bell = unpack(KEYS, 1, 8)
local batch, expiry_s, type_count = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])

local answer = applied(writer, batch)
if answer then
  return answer
end
local now = now_ms(math.ceil)
local head_before_ms, earliest_ms = head_ms(due), math.huge
local records, waiting, queued, typed = {}, {}, {}, {}
for i = 4 + type_count, #ARGV, 4 do
  local key, due_ms, type_number = ARGV[i], now + ARGV[i + 1], tonumber(ARGV[i + 3])
  records[#records + 1] = key
  records[#records + 1] = string.format('{"due":%.0f', due_ms) .. ARGV[i + 2]
  if due_ms > now then
    waiting[#waiting + 1] = due_ms
    waiting[#waiting + 1] = key
    earliest_ms = math.min(earliest_ms, due_ms)
  else
    queued[#queued + 1] = key
    queued[#queued + 1] = redis.call('XADD', queue, '*', 'key', key)
  end
  if type_number > 0 then
    typed[#typed + 1] = {type_number, key, due_ms}
  end
end

-- What a foreign key refuses is undone. `due` was looked at, and XADD came before all else.
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
if #waiting > 0 then
  redis.call('ZADD', due, unpack(waiting))
  ring(bell, head_before_ms, earliest_ms)
end
for _, task in ipairs(typed) do
  add_to_type(types, KEYS[8 + task[1]], ARGV[3 + task[1]], task[2], task[3])
end
add_to_counter(counters, 'scheduled', #records / 2)
answer = string.format('%.0f', now)
remember(writer, batch, answer, expiry_s)
return answer
