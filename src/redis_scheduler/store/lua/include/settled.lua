-- What settle and finish do: forget tasks, each unless it has left its entry, and schedule what follows. `answer` has 1
-- for those that took effect.
local answer, ids, keys, typed = {}, {}, {}, {}
local is_met, has_ended
if then_count > 0 then
  is_met, has_ended = {}, {}
end
for at = first, last, width do
  --- row key
  keys[#keys + 1] = key
end
local current = keys[1] and redis.call('HMGET', entries, unpack(keys)) or {}
keys = {}
for at = first, last, width do
  --- row
  local is_in_entry = current[#answer + 1] == id
  answer[#answer + 1] = is_in_entry and 1 or 0
  if is_in_entry then
    if then_count > 0 then
      has_ended[#answer] = not is_met[key]
      is_met[key] = true
    end
    ids[#ids + 1] = id
    keys[#keys + 1] = key
    if type_number ~= '0' then
      typed[#typed + 1] = at
    end
  end
end
if #ids == 0 then
  return answer
end

if then_count > 0 then
--- include clock due_after bell follow_ups
end
--- include forget
add_to_counter(counters, 'delivered', forgotten)
