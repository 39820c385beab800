-- bury: give a task up; its record and last failure stay among the dead letters.
-- KEYS   queue, entries, failures, counters, dead, types, then the index of each type named
-- ARGV   group, consumer, number of types, their names, then per task: entry id, key, attempts seen at the claim,
--        1 if an attempt failed just now (0: none was made), failure (JSON), type (its number above, or 0)
-- Returns per task 1 buried, 0 fenced.
-- Bounds 200 tasks a call, some ten commands each.
-- Twice  the entry is gone: 0.
-- Full   where it refuses ZADD, XDEL of nothing is the first write.
--- include clock fence types foreign
local queue, entries, failures, counters, dead, types = unpack(KEYS, 1, 6)
local group, consumer, type_count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = now_ms(math.floor)

local answer, died, failed = {}, 0, 0
for i = 4 + type_count, #ARGV, 6 do
  local id, key, attempts = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  if holds(queue, entries, failures, group, consumer, id, key, attempts) then
    local newly_failed, type_number = tonumber(ARGV[i + 3]), tonumber(ARGV[i + 5])
    -- Before what is taken out, since a foreign key may refuse it.
    local placed = put(queue, 'ZADD', dead, now, key)
    if type(placed) == 'table' then
      return placed
    end
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    redis.call('HDEL', entries, key)
    redis.call('HSET', failures, key, (attempts + newly_failed) .. ' ' .. ARGV[i + 4])
    if type_number > 0 then
      remove_from_type(types, KEYS[6 + type_number], ARGV[3 + type_number], key)
    end
    died = died + 1
    failed = failed + newly_failed
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end
if died > 0 then
  add_to_counter(counters, 'died', died)
  if failed > 0 then
    add_to_counter(counters, 'failed', failed)
  end
end
return answer
