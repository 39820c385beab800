-- The fence of an outcome: the entry is still the task's, still pending for this consumer, and no failure was recorded
-- since the claim. Otherwise the outcome does not count. `attempts` is the number seen at the claim.
local function attempts_of(failures, key)
  local failure = redis.call('HGET', failures, key)
  -- At most 15 digits, as when it is read for the claim.
  return failure and tonumber(string.match(string.sub(failure, 1, 15), '^%d+')) or 0
end

local function holds(queue, entries, failures, group, consumer, id, key, attempts)
  return redis.call('HGET', entries, key) == id
    and redis.call('XPENDING', queue, group, id, id, 1, consumer)[1] ~= nil
    and attempts_of(failures, key) == attempts
end
