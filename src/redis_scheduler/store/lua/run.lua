-- run: make tasks due now, or after a delay if they are not due before, also paused ones; failed attempts stay, and so
-- does the due time in the record. What is in delivery stays so, and what is dead. A worker that lost its lease may
-- still deliver what waits for a retry.
-- KEYS   writer tasks due queue entries failures dead paused awaiting sweep bell
-- ARGV   batch# expiry_s group waiting
-- each   key delay_ms (below 0: due_after.lua)
-- Returns per task one code, where it stood: S scheduled, F deferred, W waiting, P paused, L lost: it is due then;
--        Q queued: it was; D in delivery, A awaiting, X dead, N not found: nothing was done.
-- Bounds 200 tasks a call, some ten commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   ZREM of nothing is the first write.
--- include clock due_after bell writer foreign place marks standing deferral
--- names
local answer = applied(writer, batch)
if answer then
  return answer
end
local look = standing_of(tasks, entries, queue, group, waiting, due, failures, paused, awaiting, dead)
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
local deferred_until, keep_longest = deferral(sweep, now)

redis.call('ZREM', due, '')
local codes = {}
for at = first, #ARGV, width do
  --- row
  local code, _, id = look(key)
  if string.find('SFWPL', code, 1, true) then
    redis.call('ZREM', paused, key)
    -- What is due already keeps its time.
    local due_ms = deferred_until(due_after(now, delay_ms))
    redis.call('ZADD', due, 'LT', due_ms, key)
    if id then
      leave_queue(queue, group, entries, key, id)
    end
    earliest_ms = math.min(earliest_ms, due_ms)
  end
  codes[#codes + 1] = code
end
keep_longest()
ring(bell, head_before_ms, earliest_ms)
answer = table.concat(codes)
remember(writer, batch, answer, expiry_s)
return answer
