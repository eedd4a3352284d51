-- Appends records to the log of a peer. Answers how many it then has.
-- KEYS: 1 log
-- ARGV: 1 records kept, 2 life (ms), then the records
if redis.call('LINDEX', KEYS[1], -1) ~= ARGV[#ARGV] then -- else the answer to our first try was lost
  for i = 3, #ARGV do
    redis.call('RPUSH', KEYS[1], ARGV[i])
  end
end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[1]), -1)
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('LLEN', KEYS[1])
