package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"
)

// BadLine says where a file is not what the gateway wrote.
type BadLine struct {
	Line   int   // from 1
	Offset int64 // of its first byte
	Reason string
}

// Error names the line.
func (b *BadLine) Error() string {
	return fmt.Sprintf("line %d (byte %d): %s", b.Line, b.Offset, b.Reason)
}

// Verified is what Verify found in a file.
type Verified struct {
	Name     string // as its first line has it
	After    string // the file before; empty for the first of all
	Prev     string // hash of the last line there
	Lines    int    // whole ones
	Size     int64  // bytes of those
	First    uint64 // sequence number of the first line
	Last     uint64 // and of the last
	From, To time.Time
	Head     string  // hash of the last whole line
	Signed   int     // number of the last signed line
	Closed   bool    // that is the closing one
	Torn     int64   // bytes after the last whole line
	TornHash string  // SHA-256 of those
	About    []Event // of other files: KindUnclosed, KindTorn and KindPruned
	HeadLine int     // the line whose hash was looked for; 0 if there is none

	signedSize int64 // bytes of the lines up to the last signed one
}

// Verify reads a file, and checks every line with the one before it: its form,
// byte by byte, its number, its hash, its signature if it has one. It goes to
// the end or to the first line that is wrong, a *BadLine. What follows the last
// signed line (Verified.Signed) is chained, but nobody has signed it; whether
// that and a torn tail are as they should be, Together knows. head is the hash of
// a line to look for, or empty.
func Verify(r io.Reader, key ed25519.PublicKey, head string) (Verified, error) {
	c := checker{key: key, fingerprint: Fingerprint(key), want: head}
	for lines := newLineReader(r); ; {
		line, whole, err := lines.next()
		bad := &BadLine{Line: c.v.Lines + 1, Offset: lines.start}
		switch {
		case errors.Is(err, io.EOF):
			c.v.TornHash = hashOf(nil)
			if c.v.Lines == 0 {
				bad.Reason = "the file is empty"
				return c.v, bad
			}
			return c.v, nil
		case errors.Is(err, errLongLine), err == nil && !whole:
			rest := sha256.New()
			rest.Write(line)
			more, err := io.Copy(rest, lines.r)
			c.v.Torn, c.v.TornHash = int64(len(line))+more, hex.EncodeToString(rest.Sum(nil))
			return c.v, err
		case err != nil:
			return c.v, err
		}
		if bad.Reason = c.check(line); bad.Reason != "" {
			return c.v, bad
		}
		if c.v.Size = lines.at; c.v.Signed == c.v.Lines {
			c.v.signedSize = lines.at
		}
	}
}

// checker is how far Verify has come.
type checker struct {
	key         ed25519.PublicKey
	fingerprint string
	want        string
	v           Verified
}

// check takes up a line, or says what is wrong with it.
func (c *checker) check(line []byte) (reason string) {
	e, err := parseLine(line)
	first := c.v.Lines == 0
	switch {
	case err != nil:
		return err.Error()
	case first && (e.Kind != KindOpen || e.Seq == 0 || (e.Prev == "") != (e.After == "")):
		return "it is not the first line of a file"
	case !first && e.Kind == KindOpen:
		return "a first line among the others"
	case c.v.Closed:
		return "it follows the line that closes the file"
	case !first && e.Prev != c.v.Head:
		return "it does not follow the line before: one of the two was changed, or lines were added or removed"
	case !first && e.Seq != c.v.Last+1:
		return fmt.Sprintf("it has the number %d after %d", e.Seq, c.v.Last)
	case !e.Kind.signed() && (e.Key != "" || e.Sig != nil):
		return "a signature where none belongs"
	case e.Kind.signed() && e.Key != c.fingerprint:
		return "it is signed with another key: " + e.Key
	case e.Kind.signed() && !ed25519.Verify(c.key, signedBytes(e), e.Sig):
		return "the signature does not verify"
	}
	v := &c.v
	v.Lines++
	v.Last, v.To, v.Head = e.Seq, e.Time, hashOf(line)
	if first {
		v.Name, v.After, v.Prev, v.First, v.From = e.File, e.After, e.Prev, e.Seq, e.Time
	}
	if v.Head == c.want {
		v.HeadLine = v.Lines
	}
	switch {
	case e.Kind.signed():
		v.Signed, v.Closed = v.Lines, e.Kind == KindClose
	case e.Kind == KindTorn || e.Kind == KindUnclosed || e.Kind == KindPruned:
		v.About = append(v.About, e)
	}
	return ""
}
