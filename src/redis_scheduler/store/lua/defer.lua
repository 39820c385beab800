-- defer: record a failed attempt and send the task back to `due` until its retry: for delays longer than the window,
-- and when many wait already. Waiting in `due` costs nothing, while each sweep looks at the pending list. Or send a
-- task back until its receiver may have a slot: then no attempt was made.
-- KEYS   queue entries failures counters due sweep bell
-- ARGV   group consumer
-- each   id (of the entry) key attempts# (seen at the claim) delay_ms
--        newly_failed (1 if an attempt failed just now; 0: it waits for a slot) failure (JSON)
-- Returns per task 1 deferred, 0 fenced.
-- Bounds 200 tasks a call, some six commands each.
-- Twice  the entry is gone: 0.
-- Full   XACK is the first write.
--- include clock fence bell foreign deferral
--- names
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
local deferred_until, keep_longest = deferral(sweep, now)

local answer, deferred, failed = {}, 0, 0
for at = first, #ARGV, width do
  --- row
  if holds(queue, entries, failures, group, consumer, id, key, attempts) then
    local due_ms = deferred_until(now + delay_ms)
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    redis.call('HDEL', entries, key)
    redis.call('ZADD', due, due_ms, key)
    if newly_failed == '1' then
      redis.call('HSET', failures, key, (attempts + 1) .. ' ' .. failure)
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
  keep_longest()
  if failed > 0 then
    add_to_counter(counters, 'failed', failed)
  end
  ring(bell, head_before_ms, earliest_ms)
end
return answer
