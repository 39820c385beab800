-- check: try every command that the service needs, on the keys that it needs it for. So a command that the server
-- lacks, or the user may not call, is known before it leaves another script half applied. Nothing is written: commands
-- that write get an argument that Redis refuses only after it has looked at permission, role, disk and the type of the
-- key.
-- KEYS   writer (any) type_index (any) minute (any) tasks due queue entries failures dead dead_bytes paused
--        idempotency idempotency_ends awaiting held lines permits limits breakers counters types sweep results instance
--        token_mark server pause_all tokens token_uses alerts journal workers listeners
--        processes remains series_listed sign_ins shards oldest
-- ARGV   group
-- Returns per call that was answered by an error: command, key, error. Most are the errors asked for. An instance that
--        is no id counts as one. Where the server has a mark: 'SERVER', key, the mark and the most shards there have
--        been (check.py). Where it is a node of a cluster: 'CLUSTER', '', ''. Where no process was before, and no task
--        is: 'NEW', key of the index' mark, ''.
-- Bounds some sixty commands, each on one member at most: 0.3 ms.
-- Twice  nothing was changed.
-- Full   writes that grow are refused, with an error that is ignored: a full Redis is no fault here.
--- include instance
--- names
local nothing = 'x'

local calls = {
  {'TIME'},
  {'GET', writer}, {'SET', writer, '', 'EX', nothing}, {'UNLINK', writer}, {'GET', token_mark}, {'GET', pause_all},
  {'HGET', tokens, nothing}, {'HGET', token_uses, nothing},
  {'HSET', alerts, nothing, '', nothing}, {'HDEL', alerts, ''}, {'HGETALL', alerts},
  {'XRANGE', journal, '0', '0'},
  {'ZADD', listeners, nothing, nothing}, {'ZREM', listeners, ''},
  {'ZADD', workers, nothing, nothing}, {'ZREM', workers, ''},
  {'HSET', processes, nothing, '', nothing}, {'HDEL', processes, ''},
  {'HSET', sign_ins, nothing, '', nothing}, {'HDEL', sign_ins, ''},
  {'ZADD', shards, nothing, nothing}, {'ZREM', shards, ''},
  {'GET', remains}, {'SET', remains, '', 'EX', nothing},
  {'GET', series_listed}, {'SET', series_listed, '', 'EX', nothing},
  {'HSET', oldest, nothing, '', nothing}, {'HDEL', oldest, ''}, {'HMGET', oldest, nothing},
  {'PEXPIRE', oldest, nothing},
  {'HSET', tasks, nothing, '', nothing}, {'HGET', tasks, nothing}, {'HDEL', tasks, ''}, {'HEXISTS', tasks, nothing},
  {'HLEN', tasks}, {'HSTRLEN', tasks, nothing},
  {'ZADD', due, nothing, nothing}, {'ZREM', due, ''}, {'ZCARD', due}, {'ZCOUNT', due, 0, 0}, {'ZRANGE', due, 0, 0},
  {'ZRANGEBYSCORE', due, 0, 0}, {'ZRANK', due, nothing}, {'ZSCORE', due, nothing},
  {'ZADD', type_index, nothing, nothing}, {'ZREM', type_index, ''}, {'EXISTS', type_index},
  {'ZADD', dead, nothing, nothing}, {'ZREM', dead, ''},
  {'ZADD', paused, nothing, nothing}, {'ZREM', paused, ''},
  {'ZADD', awaiting, nothing, nothing}, {'ZREM', awaiting, ''}, {'ZRANGEBYSCORE', awaiting, 0, 0},
  {'ZADD', held, nothing, nothing}, {'ZREM', held, ''}, {'ZRANGEBYSCORE', held, 0, 0},
  {'ZADD', permits, nothing, nothing}, {'ZREM', permits, ''}, {'ZCOUNT', permits, 0, 0},
  {'HSET', lines, nothing, '', nothing}, {'HDEL', lines, ''}, {'HMGET', lines, nothing},
  {'HSET', limits, nothing, '', nothing}, {'HDEL', limits, ''}, {'HGET', limits, nothing},
  {'HSET', breakers, nothing, '', nothing}, {'HDEL', breakers, ''}, {'HGET', breakers, nothing}, {'HLEN', breakers},
  {'HSET', entries, nothing, '', nothing}, {'HDEL', entries, ''}, {'HMGET', entries, nothing},
  {'HSET', failures, nothing, '', nothing}, {'HDEL', failures, ''}, {'HMGET', failures, nothing},
  {'HSET', dead_bytes, nothing, '', nothing}, {'HDEL', dead_bytes, ''}, {'HMGET', dead_bytes, nothing},
  {'HINCRBY', dead_bytes, nothing, nothing},
  {'HSET', idempotency, nothing, '', nothing}, {'HDEL', idempotency, ''}, {'HGET', idempotency, nothing},
  {'ZADD', idempotency_ends, nothing, nothing}, {'ZREM', idempotency_ends, ''},
  {'HSET', results, nothing, '', nothing}, {'HMGET', results, nothing}, {'HLEN', results},
  {'PEXPIRE', results, nothing},
  {'HSET', sweep, nothing, '', nothing}, {'HDEL', sweep, ''}, {'HMGET', sweep, nothing},
  {'HINCRBY', counters, nothing, nothing}, {'HDEL', counters, ''}, {'HGETALL', counters},
  {'HINCRBY', minute, nothing, nothing}, {'PEXPIRE', minute, nothing}, {'HGETALL', minute},
  {'SCARD', types}, {'SRANDMEMBER', types, 1},
  {'XGROUP', 'CREATE', queue, group, nothing}, {'XGROUP', 'DELCONSUMER', queue, group, ''},
  {'XADD', queue, nothing, 'key', ''}, {'XDEL', queue, nothing}, {'XACK', queue, group, nothing},
  {'XREADGROUP', 'GROUP', group, nothing, 'COUNT', nothing, 'STREAMS', queue, '>'},
  {'XPENDING', queue, group}, {'XCLAIM', queue, group, nothing, 0, nothing, 'JUSTID'},
  {'XAUTOCLAIM', queue, group, nothing, nothing, '0-0'},
  {'XLEN', queue}, {'XRANGE', queue, '-', '-'}, {'XINFO', 'CONSUMERS', queue, group},
}

local answer = {}
local function add(command, key, err)
  answer[#answer + 1] = command
  answer[#answer + 1] = key
  answer[#answer + 1] = err
end

-- Returns also the answer.
local function is_answered(call)
  local reply = redis.pcall(unpack(call))
  local is_error = type(reply) == 'table' and reply.err ~= nil
  if is_error then
    local has_subcommand = call[1] == 'XGROUP' or call[1] == 'XINFO'
    add(has_subcommand and call[1] .. ' ' .. call[2] or call[1], has_subcommand and call[3] or call[2] or '', reply.err)
  end
  return not is_error, reply
end

for _, call in ipairs(calls) do
  is_answered(call)
end
local was_marked, mark = is_answered({'GET', server})
local was_counted, numbers = is_answered({'ZRANGE', shards, 0, -1})
if was_marked and mark and was_counted then
  local most = 0
  for _, number in ipairs(numbers) do
    most = math.max(most, tonumber(number) or 0)
  end
  add('SERVER', server, mark .. ' ' .. string.format('%.0f', most))
end
local info = redis.pcall('INFO', 'cluster')
if type(info) == 'string' and string.find(info, 'cluster_enabled:1', 1, true) then
  add('CLUSTER', '', '')
end
local was_read, kept = is_answered({'GET', instance})
if was_read and kept and not is_id(kept) then
  add('GET', instance, 'WRONGTYPE It holds no id of a deployment')
elseif was_read and not kept and redis.pcall('EXISTS', tasks) == 0 then
  add('NEW', series_listed, '')
end
-- There is no wrong argument that would keep this one from writing.
if is_answered({'SREM', types, ''}) and is_answered({'SADD', types, ''}) then
  redis.call('SREM', types, '')
end
return answer
