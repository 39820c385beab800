-- replay: bring dead letters back to life with a new delay; their attempts start afresh.
-- KEYS   writer (of a step its operation) tasks due failures dead dead_bytes counters types bell type_index...
-- ARGV   batch# expiry_s note (include/writer.lua) types...
-- each   key expected (the record as it was) tail (the record less its due time) delay_ms (below 0: due_after.lua)
--        type_number
-- Returns '<now ms> ' and per task one code: U replayed, C changed meanwhile, N not found or not dead.
-- Bounds 200 tasks a call, some eight commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   the writer's number is the first growing write: refused, nothing is written.
--- include clock due_after types bell writer foreign letters
--- names

local answer = applied(writer, batch, note)
if answer then
  return answer
end
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge

local codes, replayed = {}, 0
for at = first, #ARGV, width do
  --- row
  local due_ms, record, code = due_after(now, delay_ms), redis.call('HGET', tasks, key), 'U'
  if not record or not redis.call('ZSCORE', dead, key) then
    code = 'N'
  elseif record ~= expected then
    code = 'C'
  else
    -- After the first reads, since a foreign key may refuse those.
    if replayed == 0 then
      remember(writer, batch, '', expiry_s, note)
    end
    redis.call('ZREM', dead, key)
    drop_letter(dead_bytes, key)
    remove_from_hash(failures, key)
    redis.call('ZADD', due, due_ms, key)
    redis.call('HSET', tasks, key, string.format('{"due":%.0f', due_ms) .. tail)
    if type_number ~= '0' then
      add_to_types(tasks, types, type_of, type_number, key, due_ms)
    end
    earliest_ms = math.min(earliest_ms, due_ms)
    replayed = replayed + 1
  end
  codes[#codes + 1] = code
end
if replayed > 0 then
  add_to_counter(counters, 'replayed', replayed)
end
ring(bell, head_before_ms, earliest_ms)
return remember(writer, batch, string.format('%.0f ', now) .. table.concat(codes), expiry_s, note)
