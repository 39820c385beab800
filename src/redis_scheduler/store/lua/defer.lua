-- defer: send tasks back to `due` until their retry, the failed attempt recorded: for delays longer than the window of
-- XAUTOCLAIM, and when many wait already. Waiting there costs nothing; in the pending list each sweep looks at it.
-- Or until their receiver may have a slot: then no attempt was made.
-- KEYS   queue, entries, failures, counters, due, bell
-- ARGV   group, consumer, then per task: entry id, key, attempts seen at the claim, delay (ms),
--        1 if an attempt failed just now (0: it waits for a slot), failure (JSON)
-- Returns per task 1 deferred, 0 fenced.
-- Bounds 200 tasks a call, some six commands each.
-- Twice  the entry is gone: 0.
-- Full   XACK is the first write.
--- include clock fence bell foreign
local queue, entries, failures, counters, due, bell = unpack(KEYS)
local group, consumer = ARGV[1], ARGV[2]
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge

local answer, deferred, failed = {}, 0, 0
for i = 3, #ARGV, 6 do
  local id, key, attempts, due_ms = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), now + ARGV[i + 3]
  if holds(queue, entries, failures, group, consumer, id, key, attempts) then
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    redis.call('HDEL', entries, key)
    redis.call('ZADD', due, due_ms, key)
    if ARGV[i + 4] == '1' then
      redis.call('HSET', failures, key, (attempts + 1) .. ' ' .. ARGV[i + 5])
      failed = failed + 1
    end
    earliest_ms = math.min(earliest_ms, due_ms)
    deferred = deferred + 1
    answer[#answer + 1] = 1
  else
    answer[#answer + 1] = 0
  end
end
if deferred > 0 then
  if failed > 0 then
    add_to_counter(counters, 'failed', failed)
  end
  ring(bell, head_before_ms, earliest_ms)
end
return answer
