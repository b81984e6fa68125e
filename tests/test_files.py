"""One reader of csv files: what RFC 4180 allows is read, all else is named with its place."""

import numpy as np
import pytest

from wsrnn.errors import UserError
from wsrnn.files import read_csv
from wsrnn.predict import read_sequences
from wsrnn.tasks.tables import Tables


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "names", "rows", "lines"),
    [
        (
            '"a\r\nx","b ""q"""\r\n"1,5"," 2"\r\n',
            ["a x", 'b "q"'],
            [["1,5", " 2"]],
            [3],
        ),
        ('a,b\n"1\n\n2",3\n4,5', ["a", "b"], [["1\n\n2", "3"], ["4", "5"]], [2, 5]),
        ("a,b\r1,2\r3,4\r", ["a", "b"], [["1", "2"], ["3", "4"]], [2, 3]),
        ("a,b\nx\u2028\x0cy\x85,2\n", ["a", "b"], [["x\u2028\x0cy\x85", "2"]], [2]),
        ('\ufeff"größe, mean","b;c"\n1,2\n', ["größe, mean", "b;c"], [["1", "2"]], [2]),
        ("a,b\n1,2\n\n\r\n ,\n  \n", ["a", "b"], [["1", "2"]], [2]),
        ("1,1,0\n2,3,4", ["1", "2", "3"], [["1", "1", "0"], ["2", "3", "4"]], [1, 2]),
        ("a b,c\nx;y,2\n", ["a b", "c"], [["x;y", "2"]], [2]),
    ],
    ids=["quoted", "break in a cell", "CR", "not line ends", "BOM", "end", "no names", "other"],
)
def test_cells_are_those_of_rfc_4180(tmp_path, content, names, rows, lines):
    csv = read_csv(write(tmp_path / "a.csv", content))
    assert (csv.names, csv.rows, csv.lines) == (names, rows, lines)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a;b\n1,5;2,5\n", "is separated by ';' and has decimal commas; save it with commas"),
        ("\ufeffa;b\n1;2\n", "is separated by ';'; save it with commas between cells and points"),
        ('"a, mean";b\n1,5;2,5\n', "is separated by ';' and has decimal commas"),
        ("sep=;\na;b\n1,5;2\n", "is separated by ';' and has decimal commas"),
        ("a;b\n", "is separated by ';'; save"),
        ("a\tb\n1,5\t2\n", r"is separated by '\\t' and has decimal commas"),
        ("a|b\n1|2\n", r"is separated by '\|'; save"),
        ("a,größe\n1,2\n".encode("latin-1"), r"line 1 is not UTF-8 text: its byte 0xf6 is 'ö' in"),
        ("a,b\r1,2\r3,€\r".encode("cp1252"), "line 3 .* byte 0x80 is '€' in latin-1 .* as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16-be"), "line 1 holds a zero byte: it is UTF-16 text, or"),
        (b"PK\x03\x04\x14\0\x06\0", "line 1 holds a zero byte: .* or no text but a spreadsheet"),
        ("a,b\n1,5,2,5\n", "line 2 has 4 cells, the first row has 2; .* write decimal points"),
        ('"a\n",b\n"1\n",2\n3\n', "line 5 has 1 cells, the first row has 2; fill or drop it"),
        ("a,b\n1,2\n\n3,4\n", "line 3 is empty; remove it"),
        ("\na,b\n1,2\n", "line 1 is empty; remove it"),
        ('a,b\n1,2\n"3,4\n5,6\n', r"line 3: .* starts here .*unexpected end of data\); close its"),
        ('a,b\n1,2\n"' + "3,4\n" * 40_000, "line 3: .*field larger than field limit"),
        ('a,b\n"1"2,3\n', "line 2: .*expected after .*quote within quotes as"),
        ("a,b, a\n1,2,3\n", "line 1 has several columns named 'a'; rename or drop one"),
        ("a,b\n", "holds no rows below its header line"),
        ("", "holds no rows below its header line"),
    ],
)
def test_what_is_no_csv_is_named_for_what_it_is(tmp_path, content, message):
    with pytest.raises(UserError, match=r"a\.csv " + message) as error:
        read_csv(write(tmp_path / "a.csv", content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '"a\nx",b\n1,2\nred,3\n',
            "line 4, column a x: 'red' is not a finite number .* fill or dr",
        ),
        ("a,b\n1,2\n3,1e39\n", "line 3, column b: '1e39' .* in float32; it is beyond 3.4e38: wr"),
        ("a,b\n1,2\n-1e400,3\n", "line 3, column a: '-1e400' .* it is beyond 3.4e38"),
        ("1,2\n3,4e38\n", "line 2, column 2: '4e38' .* it is beyond 3.4e38"),
        ("a,b\n1,-inf\n", "line 2, column b: '-inf' .* fill or drop that row"),
        ("a,b\n1,#N/A\n", "line 2, column b: '#N/A' .* fill or drop that row"),
        ("a,b\n1,\n", "line 2, column b: '' .* fill or drop that row"),
        ('a,b\n"1,234",2\n', "line 2, column a: '1,234' .* thousands without separators"),
        ("1,5;2,5\n3,5;4,5\n", "line 2, column 5;2: '5;4' .* separate cells by commas, not by ';'"),
        ("1 2\n3 4\n", "has one column: a table needs inputs and a target, separated by commas"),
    ],
)
def test_what_float32_cannot_hold_is_named_in_a_table(tmp_path, content, message):
    with pytest.raises(UserError, match=r"a\.csv,? " + message):
        Tables(str(write(tmp_path / "a.csv", content))).rows()


def test_the_largest_and_smallest_numbers_of_float32_are_read(tmp_path):
    path = write(tmp_path / "a.csv", "id,t,x\na,0,3.4028235e38\na,1,-1e-45\n")
    found = read_sequences(path, 1).inputs[0, :, 0]
    np.testing.assert_array_equal(found, np.float32([3.4028235e38, -1e-45]))


@pytest.mark.parametrize(
    "times",
    [
        ["5", "-.5", "7e-1"],
        ["2020-01-03", "2020-01-01", "2020-01-02T12:00"],
        ["2020-10-25 02:30+01:00", "2020-10-25T02:00+02:00", "2020-10-25T00:30:30Z"],
    ],
    ids=["numbers", "dates", "zones"],
)
def test_sequences_are_sorted_by_times_with_any_steps(tmp_path, times):
    rows = "".join(f'"a\nb",{time},{i}\n' for i, time in enumerate(times))
    found = read_sequences(write(tmp_path / "a.csv", "id,t,x\n" + rows), 1)
    assert found.ids == ["a\nb"]
    np.testing.assert_array_equal(found.inputs[0, :, 0], [1, 2, 0])
    np.testing.assert_array_equal(found.times[0], [0, 0.5, 1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,0,1\na,1,1e39", "line 3, column x: '1e39' is not a finite number in float32"),
        ("a,0,1\nb,0,1\na,0.0,2", "line 4: id 'a' has several rows at t = 0.0, another on line 2"),
        (
            "a,2020-10-25T02:30+02:00,1\na,2020-10-25T00:30Z,1",
            r"line 3: id 'a' has several rows at t = 2020-10-25T00:30Z, another on line 2; drop",
        ),
        (
            '"a\nb",0,1\n"a\nb",0,2',
            r"line 4: id 'a\\nb' has several rows at t = 0, another on line 2",
        ),
        ("a,0,1\na,nan,2", "line 3, column t: 'nan' is not a finite"),
        ("a,noon,1", "line 2, column t: 'noon' is not a time; write ISO"),
        ("a,2020-01-01,1\na,3,1", "line 3, column t: '3' is not a time; write ISO"),
    ],
)
def test_bad_rows_of_sequences_are_named(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        read_sequences(write(tmp_path / "a.csv", "id,t,x\n" + rows), 1)
