package audit

import (
	"bufio"
	"errors"
	"io"
)

var errLongLine = errors.New("the line is longer than 128 KiB")

// lineReader reads lines of bounded length.
type lineReader struct {
	r     *bufio.Reader
	start int64 // of the line that was read last
	at    int64 // where the next one begins
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, maxLine)}
}

// next returns a line without its newline, until the next call, and whether it
// had one. The error is errLongLine for a line that is too long, of which
// nothing more can be read.
func (l *lineReader) next() (line []byte, whole bool, err error) {
	l.start = l.at
	line, err = l.r.ReadSlice('\n')
	l.at += int64(len(line))
	switch {
	case err == nil:
		return line[:len(line)-1], true, nil
	case errors.Is(err, bufio.ErrBufferFull):
		return line, false, errLongLine
	case errors.Is(err, io.EOF) && len(line) > 0:
		return line, false, nil
	}
	return nil, false, err
}
