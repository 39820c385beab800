-- cancel: take tasks out, wherever they stand; afterwards none of them can be claimed.
-- KEYS   writer (of a step its operation) tasks due queue entries failures dead dead_bytes paused awaiting held
--        counters types results segment... type_index...
-- ARGV   batch# expiry_s note (include/writer.lua) group waiting result_ttl_ms# result_bytes# (of all summaries)
--        types...
-- each   key expected (the record that it must have; '' for any) result (the summary less when the task ended; '' keeps
--        none) type_number
-- Returns per task one code: C cancelled, D in delivery (the attempt under way may still arrive), N not found,
--        X another record than expected: it stays.
-- Bounds 200 tasks a call, some ten commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   only removals come before the writer's number: of a step that finds nothing that of the number before.
--- include clock types writer foreign letters place results
--- names

local answer = applied(writer, batch, note)
if answer then
  return answer
end
-- Without the group this fails here, before any write.
redis.call('XPENDING', queue, group, '-', '+', 1)
local codes, kept, cancelled, found, now = {}, {}, 0, false, now_ms(math.floor)
for at = first, #ARGV, width do
  --- row
  local code = 'N'
  local is_there = redis.call('HEXISTS', tasks, key) == 1
  if is_there and expected ~= '' and redis.call('HGET', tasks, key) ~= expected then
    code = 'X'
  elseif is_there then
    code, found = 'C', true
    local id = redis.call('HGET', entries, key)
    if id then
      local pending = pending_of(queue, group, id)
      if pending and pending[2] ~= waiting then
        code = 'D'
      end
      leave_queue(queue, group, entries, key, id)
    end
    -- A foreign key in their places holds nothing of ours.
    if redis.pcall('ZREM', due, key) ~= 1 then
      redis.pcall('ZREM', paused, key)
      redis.pcall('ZREM', held, key)
      if redis.pcall('ZREM', awaiting, key) == 1 then
        code = 'D'
      end
    end
    -- A dead letter was counted when it died.
    if redis.pcall('ZREM', dead, key) == 1 then
      drop_letter(dead_bytes, key)
    else
      cancelled = cancelled + 1
      add_result(kept, key, result, now)
    end
    redis.call('HDEL', tasks, key)
    remove_from_hash(failures, key)
    if type_number ~= '0' then
      remove_from_types(types, type_of, type_number, key)
    end
  end
  codes[#codes + 1] = code
end

answer = table.concat(codes)
if found then
  add_to_counter(counters, 'cancelled', cancelled)
  keep_results(kept, results, segment_of, counters, now, result_ttl_ms, result_bytes)
end
if found or note ~= '' then
  if not found then
    redis.call('UNLINK', writer)
  end
  answer = remember(writer, batch, answer, expiry_s, note)
end
return answer
