-- Follow-ups: tasks that the end of another starts, in the call that writes this end; to be included behind the names.
-- Each goes to `due`, also with a delay of 0: the bell has it moved on at once, and nothing can refuse it any more
-- once the end is written.
local head_before_ms

-- To be called before the first write: a foreign key in their places is refused here.
local function look_before_follow_ups()
  if then_count > 0 then
    redis.call('HLEN', tasks)
    head_before_ms = head_ms(due)
  end
end

-- Enters the follow-ups of the rows that took effect, by their numbers.
local function enter_follow_ups(has_ended)
  local now, earliest_ms, entered = now_ms(math.ceil), math.huge, 0
  for at = last + 1, #ARGV, then_width do
    --- then
    if has_ended[item] then
      local due_ms = now + delay_ms
      redis.call('HSET', tasks, key, string.format('{"due":%.0f', due_ms) .. tail)
      redis.call('ZADD', due, due_ms, key)
      if type_number > 0 then
        local index, name = type_of(type_number)
        add_to_type(types, index, name, key, due_ms)
      end
      earliest_ms = math.min(earliest_ms, due_ms)
      entered = entered + 1
    end
  end
  if entered > 0 then
    add_to_counter(counters, 'scheduled', entered)
    ring(bell, head_before_ms, earliest_ms)
  end
end
