package moodletest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// sessionFields are the fields of a session's hash, in the order of Moodle's
// HMSET. Each value is serialised once more, as phpredis does.
var sessionFields = []string{"id", "state", "sid", "userid", "sessdata", "timecreated", "timemodified", "firstip", "lastip"}

// sessionStore keeps sessions as lists of the values of sessionFields.
type sessionStore interface {
	// load returns nil for a session that does not exist.
	load(ctx context.Context, sid string) ([]string, error)
	save(ctx context.Context, s *session, fields []string, ttl time.Duration) error
	destroy(ctx context.Context, sid string, userID int64) error
	// ofUser lists the sessions of a user.
	ofUser(ctx context.Context, userID int64) ([]string, error)
}

// encodeSession returns the values of sessionFields.
func encodeSession(s *session, compress bool) []string {
	text := appendSession(nil, &s.vars)
	if compress {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		w.Write(text) // a Buffer does not fail
		w.Close()
		text = b.Bytes()
	}
	values := []any{s.sid, "0", s.sid, s.userID, string(text), s.created, s.modified, s.firstIP, s.lastIP}
	fields := make([]string, len(values))
	for i, v := range values {
		fields[i] = string(appendPHP(nil, v))
	}
	return fields
}

const maxSessionText = 8 << 20

// decodeSession reads what encodeSession, or a real Moodle, wrote.
func decodeSession(sid string, fields []string) (*session, error) {
	values := map[string]any{}
	for i, name := range sessionFields {
		v, err := parsePHP(fields[i])
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", name, err)
		}
		values[name] = v
	}
	text, _ := values["sessdata"].(string)
	if strings.HasPrefix(text, "\x1f\x8b") {
		r, err := gzip.NewReader(strings.NewReader(text))
		if err != nil {
			return nil, err
		}
		plain, err := io.ReadAll(io.LimitReader(r, maxSessionText))
		if err != nil {
			return nil, err
		}
		text = string(plain)
	}
	vars, err := parseSession(text)
	if err != nil {
		return nil, err
	}
	s := &session{sid: sid, vars: *vars}
	s.userID, _ = values["userid"].(int64)
	s.created, _ = values["timecreated"].(int64)
	s.modified, _ = values["timemodified"].(int64)
	s.firstIP, _ = values["firstip"].(string)
	s.lastIP, _ = values["lastip"].(string)
	return s, nil
}

// redisSessions is Moodle 4.5's \core\session\redis: a hash
// {prefix}session_{sid} and an index {prefix}user_{id} of sids.
type redisSessions struct {
	client redis.UniversalClient
	prefix string
}

func (r redisSessions) key(sid string) string { return r.prefix + "session_" + sid }

func (r redisSessions) userKey(id int64) string {
	return r.prefix + "user_" + strconv.FormatInt(id, 10)
}

func (r redisSessions) load(ctx context.Context, sid string) ([]string, error) {
	values, err := r.client.HMGet(ctx, r.key(sid), sessionFields...).Result()
	if err != nil {
		return nil, err
	}
	fields := make([]string, len(values))
	for i, v := range values {
		s, ok := v.(string)
		if !ok {
			return nil, nil // gone, or written by half
		}
		fields[i] = s
	}
	return fields, nil
}

func (r redisSessions) save(ctx context.Context, s *session, fields []string, ttl time.Duration) error {
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		pairs := make([]any, 0, 2*len(fields))
		for i, f := range fields {
			pairs = append(pairs, sessionFields[i], f)
		}
		p.HSet(ctx, r.userKey(s.userID), s.sid, string(appendPHP(nil, s.created)))
		p.Expire(ctx, r.userKey(s.userID), ttl)
		p.HSet(ctx, r.key(s.sid), pairs...)
		p.Expire(ctx, r.key(s.sid), ttl)
		return nil
	})
	return err
}

func (r redisSessions) destroy(ctx context.Context, sid string, userID int64) error {
	_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.HDel(ctx, r.userKey(userID), sid)
		p.Unlink(ctx, r.key(sid))
		return nil
	})
	return err
}

func (r redisSessions) ofUser(ctx context.Context, userID int64) ([]string, error) {
	return r.client.HKeys(ctx, r.userKey(userID)).Result()
}

// memorySessions keeps sessions where nobody else can see them, as a Moodle
// does whose sessions are in its database or in files.
type memorySessions struct {
	now func() time.Time

	mu       sync.Mutex
	sessions map[string]memorySession
}

type memorySession struct {
	fields  []string
	userID  int64
	expires time.Time
}

const maxMemorySessions = 10_000

func newMemorySessions(now func() time.Time) *memorySessions {
	return &memorySessions{now: now, sessions: map[string]memorySession{}}
}

func (m *memorySessions) load(_ context.Context, sid string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sessions[sid]
	if !ok || s.expires.Before(m.now()) {
		return nil, nil
	}
	return s.fields, nil
}

func (m *memorySessions) save(_ context.Context, s *session, fields []string, ttl time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, exists := m.sessions[s.sid]; !exists && len(m.sessions) >= maxMemorySessions {
		m.evict()
	}
	m.sessions[s.sid] = memorySession{fields, s.userID, m.now().Add(ttl)}
	return nil
}

// evict makes room for one session: the one that ends first goes.
func (m *memorySessions) evict() {
	var first string
	for sid, s := range m.sessions {
		if first == "" || s.expires.Before(m.sessions[first].expires) {
			first = sid
		}
	}
	delete(m.sessions, first)
}

func (m *memorySessions) destroy(_ context.Context, sid string, _ int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.sessions, sid)
	return nil
}

func (m *memorySessions) ofUser(_ context.Context, userID int64) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var sids []string
	for sid, s := range m.sessions {
		if s.userID == userID {
			sids = append(sids, sid)
		}
	}
	return sids, nil
}
