-- Burns a token. If the right peer redeems it for the right browser, in time
-- and before a logout, this begins the learner's MNet session there. Answers
-- ok, the record, what is known of the learner's picture, and whether the peer
-- may still know of a session before (1 or 0); or what is wrong.
-- KEYS: 1 nonce, 2 token
-- ARGV: 1 now (µs), 2 life of the nonce (ms), 3 peer, 4 browser, 5 life of the
--       session (ms), 6 for how long it is remembered afterwards (ms), 7 sessions
--       kept of a learner, 8 prefix of learners, 9 prefix of Moodle sessions,
--       10 prefix of pictures, 11 how long what is known of one is kept (ms),
--       12 other names of the peer, each between blanks, 13 prefix of what ended
--       lately: Moodle sessions or, 14 behind this, learners, 15 life of a token (µs)
-- What the prefixes begin is known only when the token has been read; it is in
-- the slot of the others.
if not redis.call('SET', KEYS[1], 1, 'NX', 'PX', ARGV[2]) then
  return { 'replayed' }
end
local ends, json = string.match(redis.call('GETDEL', KEYS[2]) or '', '^(%d+) (.*)$')
if not ends then
  return { 'unknown' }
end
local now, life = tonumber(ARGV[1]), tonumber(ARGV[5])
local grant = cjson.decode(json)
if tonumber(ends) <= now then
  return { 'expired' }
elseif grant.peer ~= ARGV[3] and not string.find(ARGV[12], ' ' .. grant.peer .. ' ', 1, true) then
  return { 'peer' }
elseif grant.useragent ~= ARGV[4] then
  return { 'browser' }
elseif redis.call('EXISTS', ARGV[13] .. grant.homehash) == 1 then
  return { 'logout' }
end
local out = redis.call('GET', ARGV[13] .. ARGV[14] .. grant.user.username)
if out and tonumber(ends) - tonumber(ARGV[15]) <= tonumber(out) then
  return { 'logout' }
end

local learner, field = ARGV[8] .. grant.user.username, ARGV[3] .. ' ' .. ARGV[4]
local before = redis.call('HGET', learner, field)
local again = before and not string.match(before, '^%d+ %d+ %d+ done ') and 1 or 0
redis.call('HSET', learner, field, string.format('%s %.0f 0 - %.0f %s %s',
  ARGV[1], now + life * 1000, grant.user.id, grant.homehash, grant.home))
if redis.call('HLEN', learner) > tonumber(ARGV[7]) then
  local fields, first, least = redis.call('HGETALL', learner), nil, nil
  for i = 1, #fields, 2 do
    local started, expires, ended = string.match(fields[i + 1], '^(%d+) (%d+) (%d+)')
    local rank = tonumber(started) -- of those that are over, else of all, the one that began first
    if ended ~= '0' or tonumber(expires) <= now then
      rank = rank - now
    end
    if fields[i] ~= field and (not least or rank < least) then
      first, least = fields[i], rank
    end
  end
  redis.call('HDEL', learner, first)
end
local kept = life + tonumber(ARGV[6])
if redis.call('PTTL', learner) < kept then
  redis.call('PEXPIRE', learner, kept)
end
redis.call('SET', ARGV[9] .. grant.homehash, ARGV[4] .. ' ' .. grant.user.username, 'PX', kept)

-- Since when the picture is what it is now, as far as we have seen.
local known, picture = ARGV[10] .. grant.user.username, grant.user.picture or ''
if not string.match(picture, '^[1-9]%d*$') then
  redis.call('DEL', known)
  return { 'ok', json, '', again }
end
local this = string.format('%.0f %s ', grant.user.id, picture)
local record = redis.call('GET', known)
if not record or string.sub(record, 1, #this) ~= this then
  record = this .. ARGV[1]
end
redis.call('SET', known, record, 'PX', ARGV[11])
return { 'ok', json, record, again }
