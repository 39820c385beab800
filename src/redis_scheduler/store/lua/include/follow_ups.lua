-- Follow-ups: tasks that the end of another starts, in the call that writes this end. A block of its own, so that a
-- call without them is not slower for them; `has_ended` has the numbers of the rows that take effect.
-- Each goes to `due`, also with a delay of 0: the bell has it moved on at once. A foreign key in their places is
-- refused before anything is written.
redis.call('HLEN', tasks)
local now, head_before_ms, earliest_ms, entered = now_ms(math.ceil), head_ms(due), math.huge, 0
-- This removes nothing, so that a full Redis does not refuse what follows.
redis.call('XDEL', queue, '0-0')
for at = last + 1, #ARGV, then_width do
  --- then
  if has_ended[item] then
    local due_ms = due_after(now, delay_ms)
    redis.call('HSET', tasks, key, string.format('{"due":%.0f', due_ms) .. tail)
    redis.call('ZADD', due, due_ms, key)
    if type_number ~= '0' then
      add_to_types(tasks, types, type_of, type_number, key, due_ms)
    end
    earliest_ms = math.min(earliest_ms, due_ms)
    entered = entered + 1
  end
end
if entered > 0 then
  add_to_counter(counters, 'scheduled', entered)
  ring(bell, head_before_ms, earliest_ms)
end
