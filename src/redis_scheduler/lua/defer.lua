-- defer: record a failed attempt and send the task back to `due` until its retry: for delays longer than the window of
-- XAUTOCLAIM, and when many wait already. Waiting there costs nothing; in the pending list each sweep looks at it.
-- KEYS   queue, entries, failures, counters, due, bell
-- ARGV   group, consumer, then per task: entry id, key, attempts seen at the claim, delay (ms), failure (JSON)
-- Returns per task 1 deferred, 0 fenced.
-- Twice  the entry is gone: 0.
-- Full   XACK is the first write.
--- include clock fence bell
local queue, entries, failures, counters, due, bell = unpack(KEYS)
local group, consumer = ARGV[1], ARGV[2]
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge

local answer, deferred = {}, 0
for i = 3, #ARGV, 5 do
  local id, key, attempts, due_ms = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), now + ARGV[i + 3]
  if holds(queue, entries, failures, group, consumer, id, key, attempts) then
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    redis.call('HDEL', entries, key)
    redis.call('ZADD', due, due_ms, key)
    redis.call('HSET', failures, key, (attempts + 1) .. ' ' .. ARGV[i + 4])
    earliest_ms = math.min(earliest_ms, due_ms)
    deferred = deferred + 1
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end
if deferred > 0 then
  redis.call('HINCRBY', counters, 'failed', deferred)
  ring(bell, head_before_ms, earliest_ms)
end
return answer
