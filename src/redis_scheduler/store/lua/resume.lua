-- resume: let paused tasks come again: at their time, after what was left of a retry's delay, or at once where that is
-- over. All others go on as they did.
-- KEYS   writer (of a step its operation) tasks due queue entries failures dead paused awaiting held sweep bell
-- ARGV   batch# expiry_s note (include/writer.lua) group waiting
-- each   key expected (the record that it must have; '' for any)
-- Returns per task one code, where it stood: P paused: it is in `due` now; S scheduled, F deferred, Q queued, W
--        waiting, D in delivery, A awaiting, H held, X dead, L lost, C another record than expected, N not found:
--        nothing was done.
-- Bounds 200 tasks a call, some eight commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   ZREM of nothing is the first write.
--- include clock bell writer foreign ours place marks standing deferral
--- names
local answer = applied(writer, batch, note)
if answer then
  return answer
end
local look = standing_of(tasks, entries, queue, group, waiting, due, failures, paused, awaiting, held, dead)
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
local deferred_until, keep_longest = deferral(sweep, now)

redis.call('ZREM', due, '')
local codes = {}
for at = first, #ARGV, width do
  --- row
  local code, comes = look(key, expected)
  if code == 'P' then
    local due_ms = comes > now and comes or deferred_until(now - math.min(0, comes))
    redis.call('ZREM', paused, key)
    redis.call('ZADD', due, due_ms, key)
    earliest_ms = math.min(earliest_ms, due_ms)
  end
  codes[#codes + 1] = code
end
keep_longest()
ring(bell, head_before_ms, earliest_ms)
return remember(writer, batch, table.concat(codes), expiry_s, note)
