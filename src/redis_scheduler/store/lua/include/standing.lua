-- Where a task stands, as one code; to be included after `ours`, `place` and `marks`.
local function standing_of(tasks, entries, queue, group, waiting, due, failures, paused, awaiting, held, dead)
  -- Without the group, or with a foreign key in one of their places, this fails here, before any write.
  redis.call('XPENDING', queue, group, '-', '+', 1)
  refuse_foreign({tasks, entries, failures}, {due, paused, awaiting, held, dead})

  -- Returns also what tells when the task comes: in `due` and `paused` its score, of what waits the idle time; and the
  -- id of its entry. C: it has another record than expected ('': any).
  return function(key, expected)
    if redis.call('HEXISTS', tasks, key) == 0 then
      return 'N'
    end
    if expected ~= '' and redis.call('HGET', tasks, key) ~= expected then
      return 'C'
    end
    local id = redis.call('HGET', entries, key)
    if id then
      local pending = pending_of(queue, group, id)
      if not pending then
        return 'Q', nil, id
      end
      return pending[2] == waiting and 'W' or 'D', pending[3], id
    end
    local until_ms = redis.call('ZSCORE', due, key)
    if until_ms then
      local attempts = parts_of(redis.call('HGET', failures, key))
      return attempts == '0' and 'S' or 'F', tonumber(until_ms)
    end
    local rest = redis.call('ZSCORE', paused, key)
    if rest then
      return 'P', tonumber(rest)
    end
    if redis.call('ZSCORE', awaiting, key) then
      return 'A'
    end
    if redis.call('ZSCORE', held, key) then
      return 'H'
    end
    return redis.call('ZSCORE', dead, key) and 'X' or 'L'
  end
end
