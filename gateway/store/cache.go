package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	maxCacheKey = 256
	maxCached   = 64 << 10
	maxCacheTTL = time.Hour
	// tombstoneLife is how long a forgotten entry cannot come back: longer
	// than a question to Moodle takes that began before.
	tombstoneLife = 60 * time.Second
)

// Cache keeps small answers of others for a while, for all gateways on one
// Redis. Keys are the caller's: nothing in them may be secret.
type Cache struct {
	site *Site
	name string
}

// Cache returns the site's cache of that name.
func (s *Site) Cache(name string) *Cache { return &Cache{site: s, name: name} }

func (c *Cache) key(key string) string { return c.site.key(kindCache, c.name+":"+key) }

// Get returns what Put stored, or nil. One round trip.
func (c *Cache) Get(ctx context.Context, key string) ([]byte, error) {
	value, err := c.site.r.client.Get(ctx, c.key(key)).Bytes()
	if errors.Is(err, redis.Nil) || err == nil && len(value) == 0 {
		return nil, nil // absent, or a tombstone
	}
	return value, fail("read cache", err)
}

// Put stores value for ttl. An entry that is there stays as it is, and one
// that was forgotten within the last minute does not come back. One round trip.
func (c *Cache) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	switch {
	case len(key) > maxCacheKey || len(value) == 0 || len(value) > maxCached:
		return fmt.Errorf("write cache: key over %d bytes, or value empty or over %d", maxCacheKey, maxCached)
	case ttl < time.Millisecond || ttl > maxCacheTTL:
		return fmt.Errorf("write cache: lifetime %s is not within 1ms and %s", ttl, maxCacheTTL)
	}
	return fail("write cache", c.site.r.client.SetNX(ctx, c.key(key), value, ttl).Err())
}

// Forget ends the entry for all gateways at once. One round trip.
func (c *Cache) Forget(ctx context.Context, key string) error {
	if len(key) > maxCacheKey {
		return fmt.Errorf("forget cache: key over %d bytes", maxCacheKey)
	}
	return fail("forget cache", c.site.r.client.Set(ctx, c.key(key), "", tombstoneLife).Err())
}
