-- discard: delete dead letters, and nothing that is alive again.
-- KEYS   writer (of a step its operation) tasks failures dead dead_bytes
-- ARGV   batch# expiry_s note (include/writer.lua)
-- each   key expected (the record that it must have; '' for any)
-- Returns per task one code: C deleted, X another record than expected: it stays, N not found or not dead.
-- Bounds 200 tasks a call, some six commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   only removals come before the writer's number: of a step that finds nothing that of the number before.
--- include writer foreign letters
--- names

local answer = applied(writer, batch, note)
if answer then
  return answer
end
-- A foreign key in one of their places is refused here, before anything is written.
redis.call('HLEN', tasks)
redis.call('HLEN', failures)
local answers, found = {}, false
for at = first, #ARGV, width do
  --- row
  local is_other = expected ~= '' and redis.call('HGET', tasks, key) ~= expected and redis.call('ZSCORE', dead, key)
  local is_dead = not is_other and redis.call('ZREM', dead, key) == 1
  if is_dead then
    found = true
    redis.call('HDEL', tasks, key)
    redis.call('HDEL', failures, key)
    drop_letter(dead_bytes, key)
  end
  answers[#answers + 1] = is_other and 'X' or is_dead and 'C' or 'N'
end
answer = table.concat(answers)
if found or note ~= '' then
  if not found then
    redis.call('UNLINK', writer)
  end
  answer = remember(writer, batch, answer, expiry_s, note)
end
return answer
