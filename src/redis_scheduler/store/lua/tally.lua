-- tally: add what happened in a minute to the history: to the numbers of this minute, and to those of its hour.
-- KEYS   writer minute hour
-- ARGV   batch# expiry_s minute_ttl_ms hour_ttl_ms
-- each   name number
-- Returns 1, also of a batch that was applied before. A foreign key in the place of a minute or an hour gets nothing,
--        and stops no other.
-- Bounds some 60 names, two commands each, and two.
-- Twice  the writer's batch number: a resend adds nothing.
-- Full   no number is added, and the writer's is refused, and with it the call: the caller keeps the numbers.
--- include writer
--- names

if applied(writer, batch) then
  return 1
end
for _, hash in ipairs({{minute, minute_ttl_ms}, {hour, hour_ttl_ms}}) do
  local counted = 0
  for at = first, #ARGV, width do
    --- row
    counted = counted + (type(redis.pcall('HINCRBY', hash[1], name, number)) == 'number' and 1 or 0)
  end
  if counted > 0 then
    redis.call('PEXPIRE', hash[1], hash[2])
  end
end
remember(writer, batch, 1, expiry_s)
return 1
