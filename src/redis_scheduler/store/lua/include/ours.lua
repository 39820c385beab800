-- Fails where a foreign key has the name of one of these keys; to be called before any write.
local function refuse_foreign(hashes, sorted_sets)
  for _, hash in ipairs(hashes) do
    redis.call('HLEN', hash)
  end
  for _, set in ipairs(sorted_sets) do
    redis.call('ZCARD', set)
  end
end
