package moodle

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// decompress undoes $CFG->session_redis_compressor, recognised by the first
// bytes: no session's text begins with them.
func decompress(s string) (string, error) {
	var text string
	var err error
	switch {
	case strings.HasPrefix(s, "\x1f\x8b"):
		text, err = gunzip(s)
	case strings.HasPrefix(s, "\x28\xb5\x2f\xfd"):
		text, err = unzstd(s)
	default:
		return s, nil
	}
	if err != nil && !errors.Is(err, errTooLarge) {
		err = fmt.Errorf("decompress session data: %w", err)
	}
	return text, err
}

// gunzipper is what unpacking needs besides the text itself.
type gunzipper struct {
	gzip.Reader
	src strings.Reader
	buf [4096]byte
}

var gunzippers = sync.Pool{New: func() any { return new(gunzipper) }}

func gunzip(s string) (string, error) {
	g := gunzippers.Get().(*gunzipper)
	defer gunzippers.Put(g)
	g.src.Reset(s)
	defer g.src.Reset("")
	if err := g.Reset(&g.src); err != nil {
		return "", err
	}
	var text strings.Builder
	text.Grow(min(4*len(s), maxSession)) // sessions shrink to a third
	if _, err := io.CopyBuffer(&text, io.LimitReader(g, maxSession+1), g.buf[:]); err != nil {
		return "", err
	}
	if text.Len() > maxSession {
		return "", errTooLarge
	}
	return text.String(), nil
}

// zstdReader decodes for any number of goroutines at a time.
var zstdReader = sync.OnceValues(func() (*zstd.Decoder, error) {
	return zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(maxSession))
})

func unzstd(s string) (string, error) {
	r, err := zstdReader()
	if err != nil {
		return "", err
	}
	text, err := r.DecodeAll([]byte(s), nil)
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) || len(text) > maxSession {
		return "", errTooLarge
	}
	return string(text), err
}
