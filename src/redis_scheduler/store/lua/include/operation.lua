-- How far an operation is: '<steps> <touched> <looked at> <mark> <cursor>'. Ends the call with that unless `step` is
-- its next one: so what is sent again, or by others, is not taken twice. '' if it is not known.
local kept = redis.call('GET', operation)
local steps, touched_before, looked_at_before = string.match(kept or '', '^(%d+) (%d+) (%d+) ')
if (tonumber(steps) or 0) ~= step - 1 then
  return kept or ''
end
